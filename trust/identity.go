// SPDX-License-Identifier: Apache-2.0

package trust

import (
	"crypto/x509"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"
)

// Role is what a certificate is good for.
type Role string

const (
	Host   Role = "host"   // an agent: speaks for its own host alone
	Admin  Role = "admin"  // a person or a program that administers
	Server Role = "server" // answers; asks nobody
)

// Identity is who a certificate speaks for: host:NAME, admin:NAME, server:NAME.
type Identity struct {
	Role Role
	Name string
	// Serial and Issued are of the certificate it was read from.
	Serial string
	Issued time.Time
}

// String is the identity's name, which is the certificate's common name.
func (i Identity) String() string { return string(i.Role) + ":" + i.Name }

// nameForm is what a host or a person can be called: it goes into keys, paths
// and URLs as it is.
// It is compiled when it is first asked: every start of kindred would pay for it.
var nameForm = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?$`)
})

// CheckName refuses names that could not be written everywhere alike.
func CheckName(name string) error {
	if !nameForm().MatchString(name) || strings.Contains(name, "..") {
		return fmt.Errorf("%q is not a name: letters, digits, and . _ - within", name)
	}
	return nil
}

// IdentityOf reads a certificate that was verified.
func IdentityOf(cert *x509.Certificate) (Identity, error) {
	role, name, _ := strings.Cut(cert.Subject.CommonName, ":")
	id := Identity{Role: Role(role), Name: name, Serial: fmt.Sprintf("%x", cert.SerialNumber), Issued: cert.NotBefore.Add(skew)}
	switch id.Role {
	case Host, Admin, Server:
	default:
		return Identity{}, fmt.Errorf("the certificate of %q has no role that is known here", cert.Subject.CommonName)
	}
	if err := CheckName(name); err != nil {
		return Identity{}, fmt.Errorf("the certificate of %q: %w", cert.Subject.CommonName, err)
	}
	return id, nil
}
