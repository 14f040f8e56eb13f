package api

import (
	"github.com/labstack/echo/v4"
)

// Disposition is the header for a file of any name.
var Disposition = disposition

// Routes lists METHOD PATH of every route.
func Routes() []string {
	var list []string
	for _, r := range (&server{}).routes() {
		list = append(list, r.method+" "+r.path)
	}
	return list
}

// Panics adds a route to a handler of New: it panics, after the first byte of
// the answer if late.
func Panics(handler any, path string, late bool) {
	handler.(*echo.Echo).GET(path, func(c echo.Context) error {
		if late {
			c.Response().WriteHeader(200)
			c.Response().Flush()
		}
		panic("a bug")
	})
}
