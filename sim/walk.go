// SPDX-License-Identifier: Apache-2.0

package sim

import "kindred/host/vfio"

const (
	sError      = vfio.StateError
	sStop       = vfio.StateStop
	sRunning    = vfio.StateRunning
	sStopCopy   = vfio.StateStopCopy
	sResuming   = vfio.StateResuming
	sRunningP2P = vfio.StateRunningP2P
	sPreCopy    = vfio.StatePreCopy
	sPreCopyP2P = vfio.StatePreCopyP2P
)

// states is how many there are.
const states = int(sPreCopyP2P) + 1

// towards is the first step from one state to another when the driver supports
// everything: vfio_mig_get_next_state() in drivers/vfio/vfio_main.c. The order
// is that of the states' numbers; ERROR stands for a way that is blocked.
var towards = [states][states]vfio.State{
	//             ERROR   STOP         RUNNING      STOP_COPY    RESUMING     RUNNING_P2P  PRE_COPY     PRE_COPY_P2P
	sError:      {sError, sError, sError, sError, sError, sError, sError, sError},
	sStop:       {sError, sStop, sRunningP2P, sStopCopy, sResuming, sRunningP2P, sRunningP2P, sRunningP2P},
	sRunning:    {sError, sRunningP2P, sRunning, sRunningP2P, sRunningP2P, sRunningP2P, sPreCopy, sRunningP2P},
	sStopCopy:   {sError, sStop, sStop, sStopCopy, sStop, sStop, sError, sError},
	sResuming:   {sError, sStop, sStop, sStop, sResuming, sStop, sStop, sStop},
	sRunningP2P: {sError, sStop, sRunning, sStop, sStop, sRunningP2P, sRunning, sPreCopyP2P},
	sPreCopy:    {sError, sRunning, sRunning, sPreCopyP2P, sRunning, sRunning, sPreCopy, sPreCopyP2P},
	sPreCopyP2P: {sError, sRunningP2P, sRunningP2P, sStopCopy, sRunningP2P, sRunningP2P, sPreCopy, sPreCopyP2P},
}

// supports reports whether a device with those flags has the state.
func supports(flags vfio.Flags, s vfio.State) bool {
	if flags&vfio.FlagStopCopy == 0 {
		return false
	}
	switch s {
	case sRunningP2P:
		return flags&vfio.FlagP2P != 0
	case sPreCopy:
		return flags&vfio.FlagPreCopy != 0
	case sPreCopyP2P:
		return flags&vfio.FlagP2P != 0 && flags&vfio.FlagPreCopy != 0
	}
	return s != sError && int(s) < states
}

// next is the next step from one state to another for a device with those
// flags; states it does not have are passed over. ok is false for EINVAL.
func next(flags vfio.Flags, from, to vfio.State) (step vfio.State, ok bool) {
	if !supports(flags, from) || !supports(flags, to) {
		return sError, false
	}
	for step = towards[from][to]; step != sError && !supports(flags, step); {
		step = towards[step][to]
	}
	return step, step != sError
}
