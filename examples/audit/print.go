package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/nostall/nostall/examples/internal/columns"
)

// heading prints the title of a part, wrapped.
func heading(format string, args ...any) {
	fmt.Printf("\n%s\n", columns.Wrap(fmt.Sprintf(format, args...), "  ", 0))
}

// explain prints a line, indented and wrapped.
func explain(line string) { fmt.Println("  " + columns.Wrap(line, "    ", 2)) }

// shorten cuts an error in JSON; the line in the log has all of it.
func shorten(text, long string) string {
	const most = 60
	quoted, err := json.Marshal(long)
	if err != nil || len(quoted) <= most {
		return text
	}
	return strings.Replace(text, string(quoted), string(quoted[:most])+`... (as above)"`, 1)
}

// round rounds to three digits.
func round(d time.Duration) string {
	unit := time.Nanosecond
	for d >= 1000*unit {
		unit *= 10
	}
	return d.Round(unit).String()
}
