// SPDX-License-Identifier: Apache-2.0

// Package strictyaml decodes the YAML that people write for Kindred: unknown
// and duplicate keys are errors with line and column, a file is one document
// of bounded size and depth, and anchors, aliases and tags are refused:
// aliases can blow a small file up, and tags have no meaning here.
//
// Types that check themselves implement UnmarshalYAML(ast.Node) and return At,
// so that what they refuse has its place.
package strictyaml

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/token"
)

const (
	maxSize  = 1 << 20 // bytes in a file
	maxDepth = 32      // levels of nesting
)

// Error is what is wrong, and where.
type Error struct {
	Line, Column int // from 1
	Problem      string
}

func (e *Error) Error() string {
	return fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, e.Problem)
}

// At is an Error at the place of node.
func At(node ast.Node, format string, args ...any) error {
	return at(node.GetToken(), fmt.Sprintf(format, args...))
}

func at(t *token.Token, problem string) error {
	e := &Error{Line: 1, Column: 1, Problem: problem}
	if t != nil && t.Position != nil {
		e.Line, e.Column = t.Position.Line, t.Position.Column
	}
	return e
}

// Decode decodes the one document of data into a pointer. Every error is an
// [*Error].
func Decode(data []byte, into any) error {
	if len(data) > maxSize {
		return &Error{1, 1, fmt.Sprintf("%d bytes: a file has at most %d", len(data), maxSize)}
	}
	if err := checkNesting(data); err != nil {
		return err
	}
	return guard(func() error {
		if err := checkTokens(lexer.Tokenize(string(data))); err != nil {
			return err
		}
		return place(yaml.UnmarshalWithOptions(data, into, yaml.Strict()))
	})
}

// guard makes an error of a panic: the YAML library indexes past the end of
// some texts that are no YAML.
func guard(decode func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &Error{1, 1, fmt.Sprintf("this is no YAML that can be read (%v)", p)}
		}
	}()
	return decode()
}

// checkNesting refuses lists that open list after list on one line: they cost
// the YAML library the square of their number.
func checkNesting(data []byte) error {
	for n, line := range bytes.Split(data, []byte{'\n'}) {
		depth := 0
		for i, c := range line {
			if c != '-' && c != '?' && c != ':' && c != ' ' && c != '\t' && c != '[' && c != '{' {
				break
			}
			if c != ' ' && c != '\t' {
				depth++
			}
			if depth > maxDepth {
				return &Error{n + 1, i + 1, "nested too deeply"}
			}
		}
	}
	return nil
}

// checkTokens refuses what is YAML, but not for people to write here.
func checkTokens(tokens token.Tokens) error {
	depth, documents := 0, 0
	for _, t := range tokens {
		switch t.Type {
		case token.DocumentHeaderType:
			if documents++; documents > 1 {
				return at(t, "a second document: a file is one")
			}
		case token.TagType:
			return at(t, "tags have no meaning here")
		case token.AnchorType, token.AliasType, token.MergeKeyType:
			return at(t, "anchors, aliases and merge keys are not used here: write the value out")
		case token.SequenceStartType, token.MappingStartType:
			if depth++; depth > maxDepth {
				return at(t, "nested too deeply")
			}
		case token.SequenceEndType, token.MappingEndType:
			depth--
		}
		if t.Position != nil && t.Position.IndentNum > 2*maxDepth {
			return at(t, "nested too deeply")
		}
		if t.Type != token.DocumentHeaderType && t.Type != token.CommentType && t.Type != token.DocumentEndType && documents == 0 {
			documents = 1 // the first one began without a header
		}
	}
	return nil
}

// Node decodes one node into a pointer, as Decode does.
func Node(node ast.Node, into any) error {
	return guard(func() error { return place(yaml.NodeToValue(node, into, yaml.Strict())) })
}

// place finds the position in an error of the YAML library.
func place(err error) error {
	if err == nil {
		return nil
	}
	if own, ok := errors.AsType[*Error](err); ok {
		return own
	}
	if positioned, ok := errors.AsType[yaml.Error](err); ok {
		return at(positioned.GetToken(), oneLine(positioned.GetMessage()))
	}
	return &Error{1, 1, oneLine(err.Error())}
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
