// Command structure prints how large, wide and tangled packages are. Run it from
// the root:
//
//	go run ./internal/guard/structure ./certmgr/...
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/exec"
	"strings"
	"text/tabwriter"

	"github.com/nostall/nostall/internal/guard/shape"
)

func main() {
	log.SetFlags(0)
	ctx := context.Background()
	patterns := os.Args[1:]
	if len(patterns) == 0 {
		patterns = []string{"./..."}
	}
	out, err := exec.CommandContext(ctx, "go", append([]string{"list"}, patterns...)...).Output()
	if err != nil {
		log.Fatalf("go list: %v", err)
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "package\tfiles\tlines\texported\tin cycles\tmost fields\tmost methods\twhite-box tests")
	for path := range strings.Lines(string(out)) {
		if err := report(ctx, w, strings.TrimSpace(path)); err != nil {
			log.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		log.Fatal(err)
	}
}

func report(ctx context.Context, w *tabwriter.Writer, path string) error {
	p, err := shape.Load(ctx, ".", path)
	if err != nil {
		return err
	}
	tested, err := shape.LoadWithTests(ctx, ".", path)
	if err != nil {
		return err
	}
	inCycles := 0
	for _, group := range p.Cycles() {
		inCycles += len(group)
	}
	var fields, methods shape.Width
	for _, width := range p.Widths() {
		if width.Fields > fields.Fields {
			fields = width
		}
		if width.Methods > methods.Methods {
			methods = width
		}
	}
	using, all := tested.WhiteBoxTests()
	fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d %s\t%d %s\t%d of %d\n", path, len(p.Files), p.Lines(), len(p.Exported()), inCycles,
		fields.Fields, fields.Type, methods.Methods, methods.Type, using, all)
	return nil
}
