package guard

import (
	"bytes"
	"cmp"
	"fmt"
	"html"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// picture is the file with the picture of the packages and their imports.
var picture = filepath.Join("..", "..", "docs", "architecture.svg")

// The picture shows the packages of the core module and their actual imports.
func TestPictureOfPackages(t *testing.T) {
	want := drawPackages(coreImports(t))
	if *update {
		if err := os.WriteFile(picture, want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	have, err := os.ReadFile(picture)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(bytes.ReplaceAll(have, []byte("\r\n"), []byte("\n")), want) {
		t.Error("docs/architecture.svg does not show the packages and imports of the core module as they are. Run\n" +
			"\tgo test ./internal/guard -run TestPictureOfPackages -update\n" +
			"and say in docs/architecture.md what each new package is for")
	}
}

// coreImports returns the packages of the core module, by path in it, and the
// other core packages that each imports, without tests.
func coreImports(t *testing.T) graph {
	t.Helper()
	g := make(graph)
	for _, p := range listDeps(t, platforms[0]) {
		if !in(p.ImportPath, module) {
			continue
		}
		var imports []string
		for _, i := range p.Imports {
			if in(i, module) {
				imports = append(imports, short(i))
			}
		}
		g[short(p.ImportPath)] = imports
	}
	return g
}

// Sizes in the picture, in pixels.
const (
	boxHeight = 46.0
	boxGap    = 26.0 // between boxes side by side
	wireGap   = 14.0 // between lines that pass side by side
	levelGap  = 54.0
	margin    = 24.0
	textLine  = 20.0
)

// drawPackages draws the largest connected component of packages, and the
// others below it.
func drawPackages(g graph) []byte {
	groups := g.groups()
	slices.SortStableFunc(groups, func(a, b graph) int { return cmp.Compare(len(b), len(a)) })
	others := make(graph)
	for _, group := range groups[1:] {
		maps.Copy(others, group)
	}
	top, below := newDrawing(groups[0]), newDrawing(others)
	width := max(top.width(), below.width(), 720) + 2*margin
	title := margin + textLine
	middle := title + textLine + margin + top.height() + margin + textLine
	height := middle + margin + below.height() + margin

	var b bytes.Buffer
	fmt.Fprintf(&b, svgHead, width, height, width, height)
	fmt.Fprintf(&b, "<text class=\"say\" x=\"%.0f\" y=\"%.0f\">An arrow leads from a package to one that it imports. "+
		"What follows from other arrows is left out.</text>\n", margin, title)
	top.draw(&b, (width-top.width())/2, title+textLine+margin-textLine/2)
	fmt.Fprintf(&b, "<text class=\"say\" x=\"%.0f\" y=\"%.0f\">Not part of what certmgr is built from: the fake CA, tests, and tools for tests.</text>\n",
		margin, middle)
	below.draw(&b, (width-below.width())/2, middle+margin-textLine/2)
	b.WriteString("</svg>\n")
	return b.Bytes()
}

const svgHead = `<svg xmlns="http://www.w3.org/2000/svg" width="%.0f" height="%.0f" viewBox="0 0 %.0f %.0f" role="img" aria-label="The packages of the core module and their imports">
<!-- Drawn by internal/guard/picture_test.go. -->
<style>
text { font-family: ui-sans-serif, system-ui, "DejaVu Sans", sans-serif; text-anchor: middle; fill: #1f2328 }
.say { text-anchor: start; font-size: 13px; fill: #59636e }
.dir { font-size: 11px; fill: #59636e }
.name { font-size: 14px; font-weight: 600 }
.page { fill: #ffffff }
.public { fill: #ddf4ff; stroke: #0969da }
.internal { fill: #f6f8fa; stroke: #8c959f }
.line { fill: none; stroke: #59636e; stroke-width: 1.4 }
.tip { fill: #59636e }
@media (prefers-color-scheme: dark) {
text { fill: #f0f6fc }
.say, .dir { fill: #9198a1 }
.page { fill: #0d1117 }
.public { fill: #10233d; stroke: #4493f8 }
.internal { fill: #151b23; stroke: #656c76 }
.line { stroke: #9198a1 }
.tip { fill: #9198a1 }
}
</style>
<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" markerUnits="userSpaceOnUse" orient="auto"><path class="tip" d="M0 0 L8 4 L0 8 Z"/></marker></defs>
<rect class="page" width="100%%" height="100%%"/>
`

// boxWidth is the width of a package's box.
func boxWidth(pkg string) float64 {
	return max(92, 8.6*float64(len(path.Base(pkg)))+26, 6.2*float64(len(path.Dir(pkg))+1)+22)
}

// draw writes the lines and then the boxes, with the upper left corner at x and
// y.
func (d *drawing) draw(b *bytes.Buffer, x, y float64) {
	for _, w := range d.wires {
		fmt.Fprintf(b, "<path class=\"line\" marker-end=\"url(#tip)\" d=\"%s\"/>\n", d.line(w, x, y))
	}
	for _, level := range slices.Backward(d.levels) {
		for _, n := range level {
			if n.pkg != "" {
				n.drawBox(b, x+n.x, y+d.top(n))
			}
		}
	}
}

// drawBox draws a package with its centre at x and its upper edge at y.
func (n *node) drawBox(b *bytes.Buffer, x, y float64) {
	class := "public"
	if strings.HasPrefix(n.pkg, "internal") {
		class = "internal"
	}
	fmt.Fprintf(b, "<rect class=\"%s\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" rx=\"6\"/>\n",
		class, x-n.width/2, y, n.width, boxHeight)
	dir, name := path.Split(n.pkg)
	baseline := y + 28
	if dir != "" {
		fmt.Fprintf(b, "<text class=\"dir\" x=\"%.1f\" y=\"%.1f\">%s</text>\n", x, y+18, html.EscapeString(dir))
		baseline = y + 35
	}
	fmt.Fprintf(b, "<text class=\"name\" x=\"%.1f\" y=\"%.1f\">%s</text>\n", x, baseline, html.EscapeString(name))
}

// line is the path of a wire: from the lower edge of a box, across the levels
// in between, to the upper edge of another.
func (d *drawing) line(w wire, x, y float64) string {
	var s strings.Builder
	first := w[0]
	px, py := x+first.x+d.port(first, w[1], first.down), y+d.top(first)+boxHeight
	fmt.Fprintf(&s, "M%.1f %.1f", px, py)
	for i, n := range w[1:] {
		nx, ny := x+n.x, y+d.top(n)
		if n.pkg != "" {
			nx += d.port(n, w[i], n.up)
		}
		bend := (ny - py) / 2
		fmt.Fprintf(&s, " C%.1f %.1f %.1f %.1f %.1f %.1f", px, py+bend, nx, ny-bend, nx, ny)
		px, py = nx, ny
		if n.pkg == "" {
			py += boxHeight
			fmt.Fprintf(&s, " L%.1f %.1f", px, py)
		}
	}
	return s.String()
}

// port is the offset from n's centre at which the wire to other begins or ends.
// Ports are in the order of the neighbours, so wires do not cross there.
func (d *drawing) port(n, other *node, neighbours []*node) float64 {
	sorted := slices.SortedFunc(slices.Values(neighbours), func(a, b *node) int { return cmp.Compare(a.x, b.x) })
	i, k := float64(slices.Index(sorted, other)), float64(len(sorted))
	return (i - (k-1)/2) * min(16, 0.8*n.width/k)
}
