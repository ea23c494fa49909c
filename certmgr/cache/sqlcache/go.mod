module github.com/nostall/nostall/certmgr/cache/sqlcache

go 1.26.0

require (
	github.com/nostall/nostall v0.1.0
	golang.org/x/crypto v0.58.0
)

require (
	golang.org/x/net v0.62.0 // indirect
	golang.org/x/sync v0.24.0 // indirect
	golang.org/x/text v0.43.0 // indirect
)

replace github.com/nostall/nostall => ../../..
