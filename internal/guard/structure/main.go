// Command structure prints the size, width and coupling of packages. Run it
// from the root:
//
//	go run ./internal/guard/structure ./certmgr/...
package main

import (
	"context"
	"fmt"
	"log"
	"os"
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
	packages, err := shape.Load(ctx, ".", patterns...)
	if err != nil {
		log.Fatal(err)
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "package\tfiles\tlines\texported\tin cycles\tmost fields\tmost methods\twhite-box tests")
	for _, p := range packages {
		if err := report(ctx, w, p); err != nil {
			log.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		log.Fatal(err)
	}
}

func report(ctx context.Context, w *tabwriter.Writer, p *shape.Package) error {
	tested, err := shape.LoadWithTests(ctx, ".", p.Path)
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
	using, others := tested.WhiteBoxTests()
	fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d %s\t%d %s\t%d of %d\n", p.Path, len(p.Files), p.Lines(), len(p.Exported()), inCycles,
		fields.Fields, fields.Type, methods.Methods, methods.Type, len(using), len(using)+len(others)+tested.External)
	return nil
}
