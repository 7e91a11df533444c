// SPDX-License-Identifier: Apache-2.0

package api

import (
	"fmt"
	"time"
)

// Duration is a time span, on the wire as people write it: 90s, 15m, 2h30m.
type Duration time.Duration

// Of is the span as Go counts it.
func (d Duration) Of() time.Duration { return time.Duration(d) }

func (d Duration) String() string { return time.Duration(d).String() }

func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

func (d *Duration) UnmarshalText(text []byte) error {
	span, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("%q is no time span such as 90s or 15m", text)
	}
	*d = Duration(span)
	return nil
}
