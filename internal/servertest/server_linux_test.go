package servertest

import (
	"net"
	"testing"
	"time"
)

// Each server serves, also again at the same address after it was stopped and
// after it was killed. Its data outlive both, or it would not start.
func TestServersStartAgain(t *testing.T) {
	servers := []struct {
		name  string
		start func(t *testing.T) *Server
		ready func(addr string) error
	}{
		{"PostgreSQL", func(t *testing.T) *Server { return StartPostgres(t).Server }, postgresReady},
		{"PgBouncer", func(t *testing.T) *Server { return StartPgBouncer(t, StartPostgres(t)) }, postgresReady},
		{"MariaDB", func(t *testing.T) *Server { return StartMariaDB(t) }, mariadbReady},
	}
	for _, server := range servers {
		t.Run(server.name, func(t *testing.T) {
			t.Parallel() // it waits most of the time
			s := server.start(t)
			for _, end := range []func(){s.Stop, s.Kill} {
				end()
				if err := server.ready(s.Addr()); err == nil {
					t.Fatal("it serves after its end")
				}
				s.Start()
				if err := server.ready(s.Addr()); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// A proxy forwards, keeps everything back, is late, and resets connections.
func TestProxyFails(t *testing.T) {
	p := StartProxy(t, echoServer(t))
	conn := connect(t, p.Addr())
	echo := func(c net.Conn, text string) {
		t.Helper()
		if err := say(c, text); err != nil {
			t.Fatalf("%q through the proxy: %v", text, err)
		}
	}
	echo(conn, "hello")

	p.Blackhole()
	late := connect(t, p.Addr())
	for _, c := range []net.Conn{conn, late} {
		c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		if err := say(c, "x"); err == nil {
			t.Error("an answer came out of a black hole")
		}
		c.SetReadDeadline(time.Time{})
	}
	p.Heal()
	for _, c := range []net.Conn{conn, late} {
		if _, err := c.Read(make([]byte, 1)); err != nil {
			t.Errorf("the answer that was kept: %v", err)
		}
		echo(c, "hello again")
	}

	const delay = 30 * time.Millisecond
	p.Delay(delay)
	start := time.Now()
	echo(conn, "slow")
	if took := time.Since(start); took < 2*delay {
		t.Errorf("the answer came after %v, want at least %v", took, 2*delay)
	}

	p.Cut()
	if err := say(conn, "x"); err == nil {
		t.Error("an answer came through a cut connection")
	}
	if c, err := net.Dial("tcp", p.Addr()); err == nil {
		if err := say(c, "x"); err == nil {
			t.Error("an answer came through a new connection while all are cut")
		}
		c.Close()
	}
	p.Heal()
	echo(connect(t, p.Addr()), "healed")
}

// The end of either side is the end of the other.
func TestProxyForwardsEnds(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	p := StartProxy(t, l.Addr().String())
	for _, clientEnds := range []bool{true, false} {
		client := connect(t, p.Addr())
		server, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		ends, stays := client, server
		if !clientEnds {
			ends, stays = server, client
		}
		ends.Close()
		if _, err := stays.Read(make([]byte, 1)); err == nil {
			t.Errorf("client ends %t: the other side reads on", clientEnds)
		}
	}
}

// say sends a text and reads it back.
func say(conn net.Conn, text string) error {
	if _, err := conn.Write([]byte(text)); err != nil {
		return err
	}
	for read := 0; read < len(text); {
		n, err := conn.Read(make([]byte, len(text)-read))
		if err != nil {
			return err
		}
		read += n
	}
	return nil
}

// echoServer sends back what it reads.
func echoServer(t *testing.T) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				buf := make([]byte, 1024)
				for {
					n, err := conn.Read(buf)
					if err != nil {
						return
					}
					conn.Write(buf[:n])
				}
			}()
		}
	}()
	return l.Addr().String()
}

// A paused server does not answer, on connections that it has either, and goes on.
// PostgreSQL has a process for each connection, in a group of its own.
func TestPausedServerDoesNotAnswer(t *testing.T) {
	s := StartPostgres(t)
	old := connect(t, s.Addr())
	ask := func(c net.Conn, wait time.Duration) error {
		c.SetDeadline(time.Now().Add(wait))
		const sslRequest = "\x00\x00\x00\x08\x04\xd2\x16\x2f" // of which the answer is a letter, or an error
		if _, err := c.Write([]byte(sslRequest)); err != nil {
			return err
		}
		_, err := c.Read(make([]byte, 1))
		return err
	}
	if err := ask(old, patience); err != nil {
		t.Fatal(err)
	}
	s.Pause()
	recent := connect(t, s.Addr())
	for name, c := range map[string]net.Conn{"an old": old, "a new": recent} {
		if err := ask(c, 50*time.Millisecond); err == nil {
			t.Errorf("%s connection was answered while the server was paused", name)
		}
	}
	s.Continue()
	if err := ask(recent, patience); err != nil {
		t.Errorf("the server does not go on: %v", err)
	}
}

func connect(t *testing.T, addr string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}
