package soak

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	mathrand "math/rand/v2"
	"net/http"
	"strings"
	"time"

	"golang.org/x/crypto/acme"
)

// quiet is the phase in which no stranger comes.
const quiet = "none"

// A flood is what strangers do in a phase: act is one connection of one of them.
type flood struct {
	name string
	act  func(ctx context.Context, c serverConfig)
}

// floods are made in turn, with a quiet phase between them.
var floods = []flood{
	{quiet, func(ctx context.Context, _ serverConfig) { sleep(ctx, time.Second) }},
	{"distinct names", func(ctx context.Context, c serverConfig) {
		handshake(ctx, c.TLS, &tls.Config{ServerName: random() + ".example"})
	}},
	{"made-up names of a wildcard", func(ctx context.Context, c serverConfig) {
		handshake(ctx, c.TLS, &tls.Config{ServerName: strings.Replace(wildcard(c.Name), "*", random(), 1)})
	}},
	{"challenges on 443", func(ctx context.Context, c serverConfig) {
		handshake(ctx, c.TLS, &tls.Config{ServerName: anyHost(c), NextProtos: []string{acme.ALPNProto}})
	}},
	{"long names", func(ctx context.Context, c serverConfig) {
		name := strings.Repeat("\u4e00", 1_000+mathrand.IntN(15_000))
		handshake(ctx, c.TLS, &tls.Config{ServerName: name})
	}},
	{"garbage", func(ctx context.Context, c serverConfig) {
		noise := make([]byte, 2_000)
		rand.Read(noise)
		copy(noise, "\x16\x03\x01\x07\x00\x01\x00\x06\xfc\x03\x03") // a ClientHello, to begin with
		send(ctx, c.TLS, noise)
	}},
	{"slow clients", func(ctx context.Context, c serverConfig) {
		send(ctx, c.TLS, []byte("\x16\x03\x01"))
	}},
	{"tokens on 80", func(ctx context.Context, c serverConfig) {
		get(ctx, c.HTTP, anyHost(c), "/.well-known/acme-challenge/"+random())
	}},
	{"hosts and paths on 80", func(ctx context.Context, c serverConfig) {
		get(ctx, c.HTTP, random()+".example", "/"+strings.Repeat(random(), 50))
	}},
}

func random() string {
	b := make([]byte, 16)
	rand.Read(b)
	return hex.EncodeToString(b)
}

func anyHost(c serverConfig) string { return c.Hosts[mathrand.IntN(len(c.Hosts))] }

// send sends data, and waits for the end of the connection.
func send(ctx context.Context, address string, data []byte) {
	ctx, cancel := context.WithTimeout(ctx, clientTimeout)
	defer cancel()
	conn, err := dial(ctx, address)
	if err != nil {
		return
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if _, err := conn.Write(data); err == nil {
		bytes.NewBuffer(nil).ReadFrom(conn)
	}
}

// get makes a plain HTTP request.
func get(ctx context.Context, address, host, path string) {
	send(ctx, address, fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\nUser-Agent: %s\r\n\r\n", path, host, http.CanonicalHeaderKey("stranger")))
}
