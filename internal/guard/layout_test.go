package guard

import (
	"cmp"
	"maps"
	"slices"
	"testing"
)

// graph maps each package to its imports. It has no cycles.
type graph map[string][]string

// groups returns the connected components of g.
func (g graph) groups() []graph {
	of := make(map[string]graph)
	for _, pkg := range sortedKeys(g) {
		merged := graph{pkg: g[pkg]}
		for _, i := range g[pkg] {
			maps.Copy(merged, of[i])
			merged[i] = g[i]
		}
		maps.Copy(merged, of[pkg])
		for member := range maps.Clone(merged) {
			maps.Copy(merged, of[member])
		}
		for member := range merged {
			of[member] = merged
		}
	}
	var all []graph
	seen := make(map[string]bool)
	for _, pkg := range sortedKeys(g) {
		if !seen[pkg] {
			all = append(all, of[pkg])
		}
		for member := range of[pkg] {
			seen[member] = true
		}
	}
	return all
}

// reaches reports whether a path of at least one import leads from from to to.
func (g graph) reaches(from, to string) bool {
	return slices.ContainsFunc(g[from], func(i string) bool { return i == to || g.reaches(i, to) })
}

// reduced returns g without imports implied by others (its transitive
// reduction).
func (g graph) reduced() graph {
	r := make(graph)
	for pkg, imports := range g {
		r[pkg] = slices.DeleteFunc(slices.Sorted(slices.Values(imports)), func(to string) bool {
			return slices.ContainsFunc(imports, func(i string) bool { return i != to && g.reaches(i, to) })
		})
	}
	return r
}

// level is the length of the longest path down from pkg.
func (g graph) level(pkg string) int {
	level := 0
	for _, i := range g[pkg] {
		level = max(level, g.level(i)+1)
	}
	return level
}

// node is a package in the picture or, without a name, the point where a wire
// crosses a level.
type node struct {
	pkg      string
	level    int
	width    float64
	x        float64 // of its middle
	up, down []*node
}

// wire is an import: the importing package, the points where it crosses levels,
// the imported package.
type wire []*node

// drawing is a graph with positions. levels[0] is the lowest.
type drawing struct {
	levels [][]*node
	wires  []wire
}

func newDrawing(g graph) *drawing {
	d := new(drawing)
	g = g.reduced()
	nodes := make(map[string]*node)
	for _, pkg := range sortedKeys(g) {
		n := &node{pkg: pkg, level: g.level(pkg), width: boxWidth(pkg)}
		nodes[pkg] = n
		d.add(n)
	}
	for _, pkg := range sortedKeys(g) {
		for _, i := range g[pkg] {
			d.connect(nodes[pkg], nodes[i])
		}
	}
	d.order()
	d.place()
	return d
}

func (d *drawing) add(n *node) {
	for len(d.levels) <= n.level {
		d.levels = append(d.levels, nil)
	}
	d.levels[n.level] = append(d.levels[n.level], n)
}

// connect creates a wire with a point on each level in between.
func (d *drawing) connect(from, to *node) {
	w := wire{from}
	for level := from.level - 1; level > to.level; level-- {
		n := &node{level: level}
		d.add(n)
		w = append(w, n)
	}
	w = append(w, to)
	for i, n := range w[1:] {
		w[i].down = append(w[i].down, n)
		n.up = append(n.up, w[i])
	}
	d.wires = append(d.wires, w)
}

// order sorts each level by the mean position of its neighbours, down and up in
// turn, and keeps the order with the fewest crossings.
func (d *drawing) order() {
	best, least := d.copyLevels(), d.crossings()
	for sweep := range 24 {
		for i := range d.levels {
			if sweep%2 == 0 {
				sortByNeighbours(d.levels[len(d.levels)-1-i], func(n *node) []*node { return n.up }, d.positions())
			} else {
				sortByNeighbours(d.levels[i], func(n *node) []*node { return n.down }, d.positions())
			}
		}
		if c := d.crossings(); c < least {
			best, least = d.copyLevels(), c
		}
	}
	d.levels = best
}

func (d *drawing) copyLevels() [][]*node {
	var levels [][]*node
	for _, level := range d.levels {
		levels = append(levels, slices.Clone(level))
	}
	return levels
}

func (d *drawing) positions() map[*node]float64 {
	at := make(map[*node]float64)
	for _, level := range d.levels {
		for i, n := range level {
			at[n] = float64(i)
		}
	}
	return at
}

func sortByNeighbours(level []*node, neighbours func(*node) []*node, at map[*node]float64) {
	middle := make(map[*node]float64)
	for _, n := range level {
		middle[n] = at[n]
		if all := neighbours(n); len(all) > 0 {
			middle[n] = 0
			for _, other := range all {
				middle[n] += at[other] / float64(len(all))
			}
		}
	}
	slices.SortStableFunc(level, func(a, b *node) int { return cmp.Compare(middle[a], middle[b]) })
}

// crossings counts the crossing lines between neighbouring levels.
func (d *drawing) crossings() int {
	at, count := d.positions(), 0
	for _, level := range d.levels {
		for i, a := range level {
			for _, b := range level[i+1:] {
				for _, below := range a.down {
					for _, other := range b.down {
						if at[below] > at[other] {
							count++
						}
					}
				}
			}
		}
	}
	return count
}

// place sets the x of every node, near the mean of its neighbours.
func (d *drawing) place() {
	for _, level := range d.levels {
		settle(level, func(*node) float64 { return 0 })
	}
	for range 60 {
		for _, level := range d.levels {
			settle(level, wished)
		}
		for _, level := range slices.Backward(d.levels) {
			settle(level, wished)
		}
	}
	left := 0.0
	for _, level := range d.levels {
		for _, n := range level {
			left = min(left, n.x-n.width/2)
		}
	}
	for _, level := range d.levels {
		for _, n := range level {
			n.x -= left
		}
	}
}

// wished is the preferred x of n. Straight long wires have priority.
func wished(n *node) float64 {
	sum, weights := 0.0, 0.0
	for _, other := range slices.Concat(n.up, n.down) {
		weight := 1.0
		if n.pkg == "" && other.pkg == "" {
			weight = 4
		}
		sum += weight * other.x
		weights += weight
	}
	if weights == 0 {
		return n.x
	}
	return sum / weights
}

// settle places a level in its order, each node as near as possible to its
// preferred x. Neighbours that would overlap form a block, placed at the mean
// of their preferences.
func settle(level []*node, wish func(*node) float64) {
	type block struct {
		sum  float64 // of the wishes, each less the node's offset
		size int
	}
	offsets := make([]float64, len(level))
	var blocks []block
	for i, n := range level {
		if i > 0 {
			offsets[i] = offsets[i-1] + apart(level[i-1], n)
		}
		blocks = append(blocks, block{wish(n) - offsets[i], 1})
		for k := len(blocks) - 1; k > 0 && blocks[k-1].sum/float64(blocks[k-1].size) > blocks[k].sum/float64(blocks[k].size); k-- {
			blocks[k-1].sum += blocks[k].sum
			blocks[k-1].size += blocks[k].size
			blocks = blocks[:k]
		}
	}
	i := 0
	for _, b := range blocks {
		for range b.size {
			level[i].x = b.sum/float64(b.size) + offsets[i]
			i++
		}
	}
}

// apart is the smallest distance of the centres of two neighbours.
func apart(a, b *node) float64 {
	gap := boxGap
	if a.pkg == "" && b.pkg == "" {
		gap = wireGap
	}
	return a.width/2 + gap + b.width/2
}

func (d *drawing) top(n *node) float64 {
	return float64(len(d.levels)-1-n.level) * (boxHeight + levelGap)
}

func (d *drawing) height() float64 {
	return float64(len(d.levels))*(boxHeight+levelGap) - levelGap
}

func (d *drawing) width() float64 {
	right := 0.0
	for _, level := range d.levels {
		for _, n := range level {
			right = max(right, n.x+n.width/2)
		}
	}
	return right
}

func TestGraph(t *testing.T) {
	g := graph{"a": {"b", "c"}, "b": {"c"}, "c": nil, "d": {"e"}, "e": nil, "f": {"c"}}
	if got := g.reduced()["a"]; !slices.Equal(got, []string{"b"}) {
		t.Errorf("a imports c by b, and yet its arrows lead to %q", got)
	}
	if got := g.level("a"); got != 2 {
		t.Errorf("a is on level %d, want 2: above b, which is above c", got)
	}
	var groups [][]string
	for _, group := range g.groups() {
		groups = append(groups, sortedKeys(group))
	}
	if len(groups) != 2 || !slices.Equal(groups[0], []string{"a", "b", "c", "f"}) || !slices.Equal(groups[1], []string{"d", "e"}) {
		t.Errorf("groups %q, want a b c f and d e", groups)
	}
}
