package cachetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/nostall/nostall/certmgr/cache"
)

// keys has one key of each shape that autocert and certmgr use, and
// near-duplicates that a careless implementation would confuse.
var keys = []string{
	"example.com",           // a certificate
	"example.com+rsa",       // the certificate for clients without ECDSA
	"example.com+token",     // an answer to tls-alpn-01
	"example.com+failure",   // the record of a failure
	"example.com+order",     // an unfinished order
	"example.com+rsa+order", // the same for the other certificate
	"tok-en_1+http-01",      // an answer to http-01
	"tok-enX1+http-01",      // '_' is no wildcard, as it is to LIKE in SQL
	"acme_account+key",      // the key of the account
	"acme_account+key+next", // and the one that is to replace it
	"acme_account.key",      // '+' is neither a blank nor a dot
	"www.example.com",       // '.' is no separator
	"wwwxexample.com",       // nor does it match any character
	"xn--bcher-kva.example", // an internationalised name
	"com",                   // a key may be the end of another,
	"example.co",            // or the beginning
	strings.Repeat("a", 63) + "." + strings.Repeat("b", 63) + "." + strings.Repeat("c", 63) + ".example",
	strings.Repeat("a", 63) + "." + strings.Repeat("b", 63) + "." + strings.Repeat("c", 63) + ".example+rsa",
	strings.Repeat("0123456789abcdef", 4) + "+order", // in place of a long name, its SHA-256
}

const key = "example.com"

// expect reads k and compares the result with want.
func expect(ctx context.Context, c cache.Cache, k string, want []byte) error {
	got, err := c.Get(ctx, k)
	if err != nil {
		return fmt.Errorf("Get(%q) after Put of %d bytes: %w", k, len(want), err)
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("Get(%q) = %s, want %s", k, show(got), show(want))
	}
	return nil
}

// expectMiss reads k and requires a miss.
func expectMiss(ctx context.Context, c cache.Cache, k string) error {
	got, err := c.Get(ctx, k)
	if err == nil {
		return fmt.Errorf("Get(%q) = %s without an error, want an error that is cache.ErrMiss", k, show(got))
	}
	if !errors.Is(err, cache.ErrMiss) {
		return fmt.Errorf("Get(%q): the error is %q, want one that is cache.ErrMiss", k, err)
	}
	return nil
}

// put stores v and reads it back.
func put(ctx context.Context, c cache.Cache, k string, v []byte) error {
	if err := c.Put(ctx, k, v); err != nil {
		return fmt.Errorf("Put(%q, %s): %w", k, show(v), err)
	}
	return expect(ctx, c, k, v)
}

// show returns a short description of a value.
func show(v []byte) string {
	const most = 24
	if len(v) <= most {
		return fmt.Sprintf("%q", v)
	}
	return fmt.Sprintf("%q... (%d bytes)", v[:most], len(v))
}

func checkMiss(ctx context.Context, c cache.Cache) error {
	for _, k := range keys {
		if err := expectMiss(ctx, c, k); err != nil {
			return fmt.Errorf("in an empty cache: %w", err)
		}
	}
	if err := put(ctx, c, key, []byte("value")); err != nil {
		return err
	}
	return expectMiss(ctx, c, "other.example.com")
}

func checkValues(ctx context.Context, c cache.Cache) error {
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	values := map[string][]byte{
		"empty":           {},
		"a zero byte":     {0},
		"every byte":      every,
		"no UTF-8":        {0xff, 0xfe, 0xc0},
		"a line end":      []byte("line\r\n\n"),
		"blanks outside":  []byte(" \t value \t "),
		"no line end":     []byte("-----BEGIN CERTIFICATE-----"),
		"quotes":          []byte(`"'\%s%00${x}`),
		"what JSON nulls": []byte("null"),
	}
	for name, v := range values {
		if err := put(ctx, c, key, v); err != nil {
			return fmt.Errorf("a value that is %s: %w", name, err)
		}
	}
	return nil
}

func checkLargeValue(ctx context.Context, c cache.Cache) error {
	v := make([]byte, 1<<20)
	for i := range v {
		v[i] = byte(i * 31 >> 3)
	}
	return put(ctx, c, key, v)
}

func checkOverwrite(ctx context.Context, c cache.Cache) error {
	for _, v := range []string{"first", "a longer second value", "third", ""} {
		if err := put(ctx, c, key, []byte(v)); err != nil {
			return err
		}
	}
	return nil
}

func checkReturnedSlice(ctx context.Context, c cache.Cache) error {
	want := []byte("the value of the entry")
	if err := put(ctx, c, key, bytes.Clone(want)); err != nil {
		return err
	}
	got, err := c.Get(ctx, key)
	if err != nil {
		return err
	}
	clear(got)
	_ = append(got[:0], "overwritten"...)
	if err := expect(ctx, c, key, want); err != nil {
		return fmt.Errorf("after a change to the slice that Get had returned: %w", err)
	}
	return nil
}

func checkInputSlice(ctx context.Context, c cache.Cache) error {
	want := []byte("the value of the entry")
	v := bytes.Clone(want)
	if err := c.Put(ctx, key, v); err != nil {
		return fmt.Errorf("Put(%q): %w", key, err)
	}
	clear(v)
	if err := expect(ctx, c, key, want); err != nil {
		return fmt.Errorf("after a change to the slice that Put had been given: %w", err)
	}
	return nil
}
