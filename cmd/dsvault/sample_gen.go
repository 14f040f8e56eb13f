//go:build ignore

// This program draws the sample that `dsvault demo` pushes: go run sample_gen.go
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"log"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
)

const side = 72

type sign struct {
	name  string
	edges int // of the plate; 0: round
	plate color.RGBA
}

var signs = []sign{
	{"stop", 8, color.RGBA{190, 24, 32, 255}},
	{"yield", 3, color.RGBA{222, 60, 40, 255}},
	{"priority", 4, color.RGBA{240, 200, 40, 255}},
	{"no-entry", 0, color.RGBA{200, 20, 40, 255}},
	{"one-way", 4, color.RGBA{30, 80, 180, 255}},
	{"roundabout", 0, color.RGBA{20, 90, 190, 255}},
	{"crossing", 5, color.RGBA{24, 100, 170, 255}},
	{"speed-30", 0, color.RGBA{235, 235, 235, 255}},
}

type annotation struct {
	Image string `json:"image"`
	Label string `json:"label"`
	Box   [4]int `json:"box"` // left, top, right, bottom, in pixels
}

func main() {
	random := rand.New(rand.NewPCG(2026, 1))
	var lines bytes.Buffer
	for i, s := range signs {
		name := fmt.Sprintf("images/%02d-%s.png", i, s.name)
		img, box := draw(s, random)
		var file bytes.Buffer
		check(png.Encode(&file, img))
		check(os.WriteFile(filepath.Join("sample/signs", name), file.Bytes(), 0o644))
		line, err := json.Marshal(annotation{name, s.name, box})
		check(err)
		lines.Write(append(line, '\n'))
	}
	check(os.WriteFile("sample/signs/annotations.jsonl", lines.Bytes(), 0o644))
}

func draw(s sign, random *rand.Rand) (image.Image, [4]int) {
	img := image.NewRGBA(image.Rect(0, 0, side, side))
	x0, y0 := 30+random.IntN(12), 30+random.IntN(12)
	radius := float64(18 + random.IntN(8))
	for y := range side {
		for x := range side {
			c := color.RGBA{uint8(110 + y), uint8(140 + y/2), uint8(200 - y), 255} // sky and street
			dx, dy := float64(x-x0), float64(y-y0)
			switch d := math.Hypot(dx, dy) / edge(s.edges, math.Atan2(dy, dx)); {
			case d < radius*0.82:
				c = s.plate
			case d < radius:
				c = color.RGBA{245, 245, 245, 255}
			}
			img.Set(x, y, grain(c, random))
		}
	}
	r := int(radius)
	return img, [4]int{x0 - r, y0 - r, x0 + r, y0 + r}
}

// edge is how far a regular polygon reaches in a direction, against a circle.
func edge(n int, angle float64) float64 {
	if n == 0 {
		return 1
	}
	step := 2 * math.Pi / float64(n)
	return math.Cos(step/2) / math.Cos(math.Mod(angle+2*math.Pi+math.Pi/2, step)-step/2)
}

// grain is what makes a picture from a camera hard to compress.
func grain(c color.RGBA, random *rand.Rand) color.RGBA {
	n := func(v uint8) uint8 { return uint8(min(255, max(0, int(v)+random.IntN(25)-12))) }
	return color.RGBA{n(c.R), n(c.G), n(c.B), 255}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
