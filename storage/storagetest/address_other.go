//go:build !linux

package storagetest

import "net"

// ReserveAddress gives a loopback address that was free just now.
func ReserveAddress() (address string, free func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	return l.Addr().String(), func() {}, l.Close()
}
