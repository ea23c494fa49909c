package main

import (
	"bytes"
	"fmt"
	"image/color"
	"os"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

const (
	width       = 9 * vg.Inch
	panelHeight = 2.1 * vg.Inch
	titleHeight = 0.65 * vg.Inch
	maxPoints   = 600 // points of a curve; more than visible
)

var (
	ink    = color.RGBA{0x22, 0x2b, 0x36, 0xff}
	grey   = color.RGBA{0xd9, 0xde, 0xe5, 0xff}
	colors = map[string]color.Color{
		"autocert": color.RGBA{0xd6, 0x45, 0x3d, 0xff},
		"certmgr":  color.RGBA{0x0b, 0x6e, 0xc5, 0xff},
	}
)

// drawSVG draws a panel for each measure, one below the other, on white: it
// must be readable on dark pages too.
func drawSVG(path string, o options, sides []*side) error {
	plot.DefaultFont = font.Font{Typeface: "Liberation", Variant: "Sans"}
	var panels [][]*plot.Plot
	for _, m := range measures {
		if !m.known(sides[0]) {
			continue
		}
		p, err := panel(m, sides)
		if err != nil {
			return err
		}
		panels = append(panels, []*plot.Plot{p})
	}
	last := panels[len(panels)-1][0]
	last.X.Label.Text = "time since the start (min:s)"

	height := titleHeight + vg.Length(len(panels))*panelHeight
	picture := vgsvg.New(width, height)
	canvas := draw.New(picture)
	canvas.FillPolygon(color.White, []vg.Point{{}, {X: width}, {X: width, Y: height}, {Y: height}})
	drawTitle(canvas, o)
	tiles := draw.Tiles{
		Rows: len(panels), Cols: 1, PadY: 0.12 * vg.Inch,
		PadTop: titleHeight, PadBottom: 0.12 * vg.Inch, PadLeft: 0.15 * vg.Inch, PadRight: 0.3 * vg.Inch,
	}
	for i, row := range plot.Align(panels, tiles, canvas) {
		panels[i][0].Draw(row[0])
	}

	var svg bytes.Buffer
	if _, err := picture.WriteTo(&svg); err != nil {
		return err
	}
	// Few readers have the font; these have the same widths.
	text := bytes.ReplaceAll(svg.Bytes(), []byte("font-family:Liberation Sans;"),
		[]byte("font-family:Liberation Sans,Arial,Helvetica,sans-serif;"))
	return os.WriteFile(path, text, 0o644)
}

// drawTitle describes in two lines what happens to both sides.
func drawTitle(c draw.Canvas, o options) {
	style := plot.New().Title.TextStyle
	style.Color = ink
	style.XAlign, style.YAlign = draw.XCenter, draw.YTop
	at := vg.Point{X: c.Center().X, Y: c.Max.Y - 0.12*vg.Inch}
	style.Font.Size = 14
	c.FillText(style, at, "A host whose certificate can never be issued")
	at.Y -= 0.25 * vg.Inch
	style.Font.Size = 10
	c.FillText(style, at, fmt.Sprintf("a connection every %v, clients leave after %v; %s", o.every, o.leave, faultTexts[o.fault]))
}

// panel draws one measure of all sides.
func panel(m measure, sides []*side) (*plot.Plot, error) {
	p := plot.New()
	p.BackgroundColor = color.White
	p.Title.Text = m.title
	p.Title.Padding = 3
	p.X.Tick.Marker, p.Y.Tick.Marker = clock{}, counts{}
	for _, axis := range []*plot.Axis{&p.X, &p.Y} {
		axis.Min = 0
		axis.Color, axis.Tick.Color = ink, ink
		axis.Label.TextStyle.Color, axis.Tick.Label.Color = ink, ink
		axis.Tick.Label.Font.Size = 10
		axis.Padding = 4 // keeps a curve at zero visible
	}
	p.Title.TextStyle.Color, p.Legend.TextStyle.Color = ink, ink
	p.Title.TextStyle.Font.Size, p.Legend.TextStyle.Font.Size = 12, 11
	p.Legend.Top, p.Legend.Left = true, true
	p.Legend.XOffs, p.Legend.YOffs = 8, -4
	p.Legend.Padding = 2
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = grey, grey
	p.Add(grid)

	top := 1
	for _, s := range sides {
		line, err := plotter.NewLine(s.curve(m))
		if err != nil {
			return nil, err
		}
		line.Color, line.Width = colors[s.name], 2
		p.Add(line)
		p.Legend.Add(fmt.Sprintf("%s: %s at the peak", s.name, thousands(m.peak(s))), line)
		top = max(top, m.peak(s))
	}
	p.Y.Max = 1.1 * float64(top)
	return p, nil
}

// curve returns at most maxPoints points, each the peak of its interval, so
// that no spike is lost.
func (s *side) curve(m measure) plotter.XYs {
	each := max(1, (len(s.samples)+maxPoints-1)/maxPoints)
	points := make(plotter.XYs, 0, maxPoints)
	for i, sample := range s.samples {
		x, y := sample.Time.Sub(s.start).Seconds(), float64(m.of(sample))
		if i%each == 0 {
			points = append(points, plotter.XY{X: x, Y: y})
			continue
		}
		last := &points[len(points)-1]
		last.Y = max(last.Y, y)
	}
	return points
}

// clock labels an axis of seconds with minutes and seconds.
type clock struct{}

var _ plot.Ticker = clock{}

// Ticks returns labelled ticks at round times, 13 at most.
func (clock) Ticks(from, to float64) []plot.Tick {
	step := pick([]int{1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600}, (to-from)/12)
	var ticks []plot.Tick
	for t := 0; float64(t) <= to; t += step {
		ticks = append(ticks, plot.Tick{Value: float64(t), Label: fmt.Sprintf("%d:%02d", t/60, t%60)})
	}
	return ticks
}

// counts labels an axis of whole numbers.
type counts struct{}

var _ plot.Ticker = counts{}

// Ticks returns labelled ticks at round numbers, 5 at most.
func (counts) Ticks(from, to float64) []plot.Tick {
	step := pick([]int{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000}, (to-from)/4)
	var ticks []plot.Tick
	for n := 0; float64(n) <= to; n += step {
		ticks = append(ticks, plot.Tick{Value: float64(n), Label: thousands(n)})
	}
	return ticks
}

// pick returns the first step that is at least least, or the last one.
func pick(steps []int, least float64) int {
	for _, step := range steps {
		if float64(step) >= least {
			return step
		}
	}
	return steps[len(steps)-1]
}

// thousands formats 3012 as 3,012.
func thousands(n int) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%s,%03d", thousands(n/1000), n%1000)
}
