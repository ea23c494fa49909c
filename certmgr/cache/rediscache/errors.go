package rediscache

import (
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/redis/go-redis/v9"
)

// A remedy says what an operator does about an error of the server, which begins
// with a word in capitals.
type remedy struct{ prefix, advice string }

// remedies is never changed.
var remedies = []remedy{
	{"WRONGTYPE", "something else has written this key: delete it, or give the cache another Options.Prefix"},
	{"NOAUTH", "set Username and Password of the client"},
	{"WRONGPASS", "set Username and Password of the client to what the server knows"},
	{"NOPERM", "the README of rediscache lists what the user must be allowed (ACL SETUSER)"},
	{"ERR The user executing the script", "the README of rediscache lists what the user must be allowed (ACL SETUSER)"},
	{"READONLY", "the server is a replica: connect to the primary, or use redis.NewFailoverClient, which finds it by the sentinels"},
	{"LOADING", "the server has been started and reads its data: wait until it has"},
	{"MASTERDOWN", "the server is a replica that has lost its primary: see to the primary"},
	{"CLUSTERDOWN", "a part of the cluster has no primary: look at CLUSTER INFO and CLUSTER NODES"},
	{"MOVED", "the server is part of a cluster: use redis.NewClusterClient"},
	{"ASK", "the server is part of a cluster: use redis.NewClusterClient"},
	{"CROSSSLOT", "the proxy or server ignores hash tags: connect to the servers themselves"},
	{"TRYAGAIN", "the cluster moves the slot to another server: wait until it has"},
	{"OOM", "maxmemory of the server is used up: raise it"},
	{"NOREPLICAS", "fewer replicas than min-replicas-to-write are in step: see to the replicas"},
	{"MISCONF", "the server cannot write to its disk: see to the disk and the server's log"},
	{"BUSY", "a script of somebody else's is running: wait, or SCRIPT KILL"},
	{"ERR max number of clients", "raise maxclients of the server, or lower PoolSize of the clients"},
	{"ERR unknown command", "the server, or a proxy before it, refuses commands that rediscache needs: its README lists them"},
}

// failed says what could not be done, for which key, and what to do about it.
// The errors of a server quote neither values nor keys of ours, with the one
// exception that serverError is about.
func failed(what, key string, err error) error {
	if key != "" {
		what += fmt.Sprintf(" %q", key)
	}
	if s, ok := errors.AsType[redis.Error](err); ok {
		err = serverError(s, err)
		for _, r := range remedies {
			if redis.HasErrorPrefix(s, r.prefix) || strings.HasPrefix(s.Error(), r.prefix) {
				return fmt.Errorf("rediscache: %s: %w (%s)", what, err, r.advice)
			}
		}
	} else if _, ok := errors.AsType[net.Error](err); ok {
		return fmt.Errorf("rediscache: %s: %w (does the server run, and does this machine reach it?)", what, err)
	}
	return fmt.Errorf("rediscache: %s: %w", what, err)
}

// refusedCall is the server's error about a command that it does not know,
// without the arguments that it quotes.
type refusedCall string

func (e refusedCall) Error() string { return string(e) }

// RedisError makes it a [redis.Error], as the error was that it stands for.
func (e refusedCall) RedisError() {}

// serverError returns err without arguments of the command: of one that is not
// known, or has been renamed, the server quotes the first 128 bytes.
func serverError(s redis.Error, err error) error {
	text, _, quotes := strings.Cut(s.Error(), ", with args beginning with")
	if !quotes {
		return err
	}
	return refusedCall(text)
}
