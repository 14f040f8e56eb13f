package client

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/seal"
	"dsvault/vault/wire"
)

// The files of a login. All are 0600 in a folder of 0700.
const (
	loginFile  = "login.json"
	tokenFile  = "token"
	deviceFile = "device.key"
	knownFile  = "log.json"
)

// What is read of each file at the most.
const (
	maxHomeFile  = 64 << 10
	maxKnownFile = 16 << 20 // the names of many scopes
)

// Login is what the client remembers of a server. None of it is secret, but
// the pinned key must not be changed by others.
type Login struct {
	URL            string           `json:"url"`
	AllowPlainHTTP bool             `json:"allow_plain_http,omitempty"`
	Handle         string           `json:"handle"`
	Device         dataset.DeviceID `json:"device"`
	DeviceName     string           `json:"device_name"`
	LogOrigin      string           `json:"log_origin"` // pinned at the first login
	LogKey         string           `json:"log_key"`
	LogKeysBefore  []string         `json:"log_keys_before,omitempty"` // that were followed to it, the newest first
}

// maxKeysBefore is the most keys of a log that are kept besides the newest.
const maxKeysBefore = 50

// Pin is the log as the server has to show it.
func (l Login) Pin() LogPin { return LogPin{Origin: l.LogOrigin, Key: l.LogKey} }

// FilePin is the log for what it has signed at any time: receipts, certificates
// and files.
func (l Login) FilePin() LogPin {
	pin := l.Pin()
	pin.Older = l.LogKeysBefore
	return pin
}

// Follow is the login after a verification of the log: with the key that the
// pinned one has led to, and those on the way.
func (l Login) Follow(v Verified) Login {
	l.LogOrigin, l.LogKey = v.Origin, v.Key
	if before := slices.Concat(v.Followed, l.LogKeysBefore); len(before) > 0 {
		l.LogKeysBefore = before[:min(len(before), maxKeysBefore)]
	}
	return l
}

// LeadsTo gives the login with the log that a server shows at another login, if
// the pinned key leads to the one shown. The first login of all pins it. Of a log
// that was recovered the pin stays: whoever verifies it is to be told.
func (l Login) LeadsTo(in wire.LoggedIn) (Login, bool) {
	if l.LogKey == "" || l.LogOrigin == in.LogOrigin && l.LogKey == in.LogKey {
		l.LogOrigin, l.LogKey = in.LogOrigin, in.LogKey
		return l, true
	}
	pinned, known := audit.SplitOrigin(l.LogOrigin)
	name, epoch := audit.SplitOrigin(in.LogOrigin)
	keys, err := audit.Successors(l.LogKey, name, epoch, in.LogSuccessions)
	if err != nil || name != pinned || epoch < known || keys[0] != in.LogKey {
		return l, false
	}
	if epoch > known {
		return l, true
	}
	return l.Follow(Verified{Origin: in.LogOrigin, Key: in.LogKey, Followed: keys[1:]}), true
}

// Home is the config folder of a user: login.json, token and device.key of the
// first server that they logged in to, and of each further server the same in
// servers/SCHEME_HOST_PORT.
type Home struct{ dir string }

// OpenHome uses a folder, which need not exist yet. An empty dir means
// "dsvault" in the user's config folder.
func OpenHome(dir string) (*Home, error) {
	if dir == "" {
		base, err := os.UserConfigDir()
		if err != nil {
			return nil, fault.Wrap(fault.Invalid, "client.OpenHome", "there is no config folder for this user", err).
				WithHint("set DSVAULT_CONFIG to a folder of your own")
		}
		dir = filepath.Join(base, "dsvault")
	}
	return &Home{dir}, nil
}

// Dir is the folder.
func (h *Home) Dir() string { return h.dir }

// Current is the place of the first server's login.
func (h *Home) Current() *Place { return &Place{h.dir} }

// Server is the place of the login to the server with this URL, in normal
// form. A server that is new gets the folder itself if that is still free.
func (h *Home) Server(url string) (*Place, error) {
	main := h.Current()
	login, err := main.Login()
	switch {
	case err == nil && login.URL == url, fault.Is(err, fault.NotFound):
		return main, nil
	case err != nil:
		return nil, err
	}
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '.' || r == '-' {
			return r
		}
		return '_'
	}, strings.Replace(url, "://", "_", 1))
	return &Place{filepath.Join(h.dir, "servers", name)}, nil
}

// Pins are the logs of all servers that this user has logged in to, the first
// server's first, with the keys that they have had.
func (h *Home) Pins() ([]LogPin, error) {
	places := []*Place{h.Current()}
	others, err := os.ReadDir(filepath.Join(h.dir, "servers"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fault.Wrap(fault.Invalid, "client.Pins", "cannot read "+h.dir, err).
			WithHint("check the folder that DSVAULT_CONFIG names")
	}
	for _, e := range others {
		places = append(places, &Place{filepath.Join(h.dir, "servers", e.Name())})
	}
	var pins []LogPin
	for _, p := range places {
		login, err := p.Login()
		if fault.Is(err, fault.NotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if login.LogKey != "" {
			pins = append(pins, login.FilePin())
		}
	}
	return pins, nil
}

// Place is the folder of one server's login.
type Place struct{ dir string }

// Dir is the folder.
func (p *Place) Dir() string { return p.dir }

// DevicePath is the path of the device key, an age key file that stock
// `age -d -i` takes.
func (p *Place) DevicePath() string { return filepath.Join(p.dir, deviceFile) }

// Login reads what is known of the server; NotFound means no login yet.
func (p *Place) Login() (Login, error) {
	var l Login
	data, err := p.read(loginFile, "client.Login")
	if err != nil {
		return l, err
	}
	if err := json.Unmarshal(data, &l); err != nil {
		return l, fault.Wrap(fault.Corrupt, "client.Login", p.path(loginFile)+" is damaged", err).
			WithHint("remove it and log in again")
	}
	return l, nil
}

// SaveLogin writes what is known of the server.
func (p *Place) SaveLogin(l Login) error {
	data, err := json.MarshalIndent(l, "", "  ")
	if err != nil {
		return fault.Wrap(fault.Internal, "client.SaveLogin", "cannot encode the login", err)
	}
	return p.write(loginFile, append(data, '\n'))
}

// Token reads the stored token; NotFound means none.
func (p *Place) Token() (Secret, error) {
	data, err := p.read(tokenFile, "client.Token")
	if err != nil {
		return Secret{}, err
	}
	return ParseSecret(string(data))
}

// SaveToken stores the token.
func (p *Place) SaveToken(s Secret) error {
	return p.write(tokenFile, []byte(s.Expose()+"\n"))
}

// Known reads what the last verification of the log found; the zero Known if
// there was none.
func (p *Place) Known() (Known, error) {
	var k Known
	data, err := p.readMost(knownFile, "client.Known", maxKnownFile)
	if fault.Is(err, fault.NotFound) {
		return k, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &k)
	}
	if err != nil || len(k.Root) != 32 {
		return Known{}, fault.Wrap(fault.Corrupt, "client.Known", p.path(knownFile)+" is damaged", err).
			WithHint("it remembers the log as you verified it; restore it, or remove it to begin anew")
	}
	return k, nil
}

// SaveKnown remembers what a verification found.
func (p *Place) SaveKnown(k Known) error {
	data, err := json.Marshal(k)
	if err != nil {
		return fault.Wrap(fault.Internal, "client.SaveKnown", "cannot encode what is known of the log", err)
	}
	return p.write(knownFile, append(data, '\n'))
}

// Device reads the device key; NotFound means none.
func (p *Place) Device() (*seal.Identity, error) {
	data, err := p.read(deviceFile, "client.Device")
	if err != nil {
		return nil, err
	}
	defer clear(data)
	return seal.ParseIdentity(data)
}

// EnsureDevice reads the device key, or makes and stores one, so that a second
// login keeps the key that earlier shards were sealed to.
func (p *Place) EnsureDevice() (*seal.Identity, error) {
	id, err := p.Device()
	if !fault.Is(err, fault.NotFound) {
		return id, err
	}
	if id, err = seal.GenerateIdentity(); err != nil {
		return nil, err
	}
	secret := id.Expose()
	defer clear(secret)
	var file bytes.Buffer
	fmt.Fprintf(&file, "# dsvault device key: keep it secret\n# public key: %s\n%s\n", id.Recipient(), secret)
	defer clear(file.Bytes())
	return id, p.write(deviceFile, file.Bytes())
}

func (p *Place) path(name string) string { return filepath.Join(p.dir, name) }

// read reads a file that nobody else may read.
func (p *Place) read(name, op string) ([]byte, error) { return p.readMost(name, op, maxHomeFile) }

func (p *Place) readMost(name, op string, most int64) ([]byte, error) {
	f, err := os.Open(p.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.Wrap(fault.NotFound, op, "you are not logged in", err).
			WithHint("run `dsvault login URL`")
	}
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, op, "cannot read "+p.path(name), err).
			WithHint("check the folder that DSVAULT_CONFIG names")
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return nil, fault.Wrap(fault.Invalid, op, p.path(name)+" is not a file", err)
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
		return nil, fault.New(fault.Invalid, op, "others can read "+p.path(name)).
			WithHint("run `chmod 600 " + p.path(name) + "`; if somebody may have read it, run `dsvault token rotate` and make a new device key")
	}
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(data)) > most {
		err = fault.New(fault.TooLarge, op, p.path(name)+" is too large")
	}
	return data, err
}

// Writable tries whether the folder takes a token, without changing one.
func (p *Place) Writable() error {
	tmp, err := p.temporary(tokenFile)
	if err == nil {
		_, err = tmp.Write(make([]byte, 1<<10)) // a disk that is full takes the file, and nothing in it
		if closing := tmp.Close(); err == nil {
			err = closing
		}
		os.Remove(tmp.Name())
	}
	return p.unwritable(tokenFile, err)
}

func (p *Place) temporary(name string) (*os.File, error) {
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		return nil, err
	}
	return os.CreateTemp(p.dir, "."+name+"-*") // 0600
}

func (p *Place) unwritable(name string, err error) error {
	if err == nil {
		return nil
	}
	return fault.Wrap(fault.Invalid, "client.write", "cannot write "+p.path(name), err).
		WithHint("check the folder; DSVAULT_CONFIG names another one")
}

// write puts a file in place at once and whole.
func (p *Place) write(name string, data []byte) (err error) {
	defer func() { err = p.unwritable(name, err) }()
	tmp, err := p.temporary(name)
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(data)
	if err == nil {
		err = tmp.Sync()
	}
	if closing := tmp.Close(); err == nil {
		err = closing
	}
	if err != nil {
		return err
	}
	return os.Rename(tmp.Name(), p.path(name))
}
