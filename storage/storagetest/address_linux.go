package storagetest

import (
	"net"
	"strconv"
	"syscall"
)

// ReserveAddress gives a loopback address with a port that the system gives to
// nobody else before free: a server can be started there, ended, and started
// again. The port is bound and not listened on, which leaves it to whoever asks
// for it by its number.
func ReserveAddress() (address string, free func(), err error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return "", nil, err
	}
	host := [4]byte{127, 0, 0, 1}
	var at syscall.Sockaddr
	if err = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err == nil {
		err = syscall.Bind(fd, &syscall.SockaddrInet4{Addr: host})
	}
	if err == nil {
		at, err = syscall.Getsockname(fd)
	}
	if err != nil {
		syscall.Close(fd)
		return "", nil, err
	}
	port := at.(*syscall.SockaddrInet4).Port
	return net.JoinHostPort(net.IP(host[:]).String(), strconv.Itoa(port)), func() { syscall.Close(fd) }, nil
}
