package chunk

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
)

// MACHeader carries the [MAC] of a control message.
const MACHeader = "Lf-Mac"

// maxKey bounds the key that a hello brings.
const maxKey = 64

// NewKey is a key for a node's [Hello]: 128 random bits as hex.
func NewKey() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the process instead
	return hex.EncodeToString(b[:])
}

// MAC says that whoever sends a control message has heard the node's hello, which only receivers and administrators can: HMAC-SHA256
// (RFC 2104) of the message's bytes with the hello's key, as hex.
func MAC(key string, message []byte) string {
	h := hmac.New(sha256.New, []byte(key))
	h.Write(message)
	return hex.EncodeToString(h.Sum(nil))
}

// Genuine tells whether mac is that of a message. With an empty key nothing is.
func Genuine(key string, message []byte, mac string) bool {
	return key != "" && hmac.Equal([]byte(MAC(key, message)), []byte(mac))
}
