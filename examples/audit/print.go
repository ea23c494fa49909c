package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

const width = 118 // of the output

func heading(format string, args ...any) { fmt.Printf("\n"+format+"\n", args...) }

// explain prints a line, indented and wrapped after spaces and commas.
func explain(line string) {
	const indent = "  "
	fmt.Print(indent)
	column := len(indent)
	for line != "" {
		end := strings.IndexAny(line, " ,") + 1
		if end == 0 {
			end = len(line)
		}
		if column+end > width && column > len(indent) {
			fmt.Print("\n" + indent + indent)
			column = 2 * len(indent)
		}
		fmt.Print(line[:end])
		column += end
		line = line[end:]
	}
	fmt.Println()
}

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
