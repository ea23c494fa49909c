package shape

import (
	"go/ast"
	"go/token"
	"go/types"
)

// Literal is a composite literal of a struct.
type Literal struct {
	Type   string
	Fields int
	Pos    token.Position
}

// CrowdedLiterals returns the struct literals that set more than limit fields
// by name and do not have each on its own line.
func (p *Package) CrowdedLiterals(limit int) []Literal {
	var all []Literal
	for _, f := range p.Files {
		ast.Inspect(f, func(n ast.Node) bool {
			lit, ok := n.(*ast.CompositeLit)
			if !ok || len(lit.Elts) <= limit || !p.isStruct(lit) || !p.isCrowded(lit) {
				return true
			}
			all = append(all, Literal{
				Type:   types.TypeString(p.Info.Types[lit].Type, types.RelativeTo(p.Types)),
				Fields: len(lit.Elts),
				Pos:    p.Fset.Position(lit.Pos()),
			})
			return true
		})
	}
	return all
}

// isStruct reports whether lit is a struct literal with field names.
func (p *Package) isStruct(lit *ast.CompositeLit) bool {
	if _, ok := lit.Elts[0].(*ast.KeyValueExpr); !ok {
		return false
	}
	t := p.Info.Types[lit].Type.Underlying()
	if ptr, ok := t.(*types.Pointer); ok { // &T elided within another literal
		t = ptr.Elem().Underlying()
	}
	_, ok := t.(*types.Struct)
	return ok
}

// isCrowded reports whether a field of lit shares a line with another field or
// a brace.
func (p *Package) isCrowded(lit *ast.CompositeLit) bool {
	last := p.line(lit.Lbrace)
	for _, elt := range lit.Elts {
		if p.line(elt.Pos()) == last {
			return true
		}
		last = p.line(elt.End())
	}
	return p.line(lit.Rbrace) == last
}

func (p *Package) line(pos token.Pos) int { return p.Fset.Position(pos).Line }
