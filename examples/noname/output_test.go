package main

import (
	"testing"

	"github.com/nostall/nostall/examples/internal/columnstest"
)

func TestOutputFitsATerminal(t *testing.T) { columnstest.Run(t, run) }
