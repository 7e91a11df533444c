// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"encoding/json"
	"testing"
)

// TestValueJSON: a value is read as any JSON string is, however it is written.
func TestValueJSON(t *testing.T) {
	for _, text := range []string{`"a"`, `""`, `"~ !"`, `"a\"b"`, `"\u00e9"`, `"é"`, `"\\"`, `"\n"`, `"\ud800"`, "\"\xff\"", "\"\x7f\"", `null`, `"<"`} {
		var want *string
		if err := json.Unmarshal([]byte(text), &want); err != nil {
			t.Fatal(err)
		}
		var v Value
		if err := json.Unmarshal([]byte(text), &v); err != nil {
			t.Errorf("%s: %v", text, err)
		}
		if want == nil && v != None() || want != nil && v != Of(*want) {
			t.Errorf("%s is read as %v", text, v)
		}
	}
	for _, text := range []string{`1`, `"`, `"a" "b"`, `{}`, `"a"b"`, ``, "\"\n\""} {
		if err := new(Value).UnmarshalJSON([]byte(text)); err == nil {
			t.Errorf("%s is read", text)
		}
	}
}
