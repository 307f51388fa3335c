package chunk

import "testing"

// A message is genuine with the MAC that its own bytes and the node's key give, and with no other.
func TestGenuineIsWhatTheKeyWasUsedOn(t *testing.T) {
	key, message := NewKey(), []byte(`{"hello":true}`)
	if got := MAC("key", []byte("The quick brown fox jumps over the lazy dog")); got != "f7bc83f430538424b13298e6aa6fb143ef4d59a14946175997479dbc2d1a3cd8" {
		t.Errorf("not HMAC-SHA256: %s", got)
	}
	if !Genuine(key, message, MAC(key, message)) {
		t.Error("a genuine one isn't")
	}
	for name, is := range map[string]bool{
		"an empty key":        Genuine("", message, MAC("", message)),
		"another key":         Genuine(key, message, MAC(NewKey(), message)),
		"another message":     Genuine(key, message, MAC(key, []byte(`{"hello":false}`))),
		"no MAC":              Genuine(key, message, ""),
		"the MAC's beginning": Genuine(key, message, MAC(key, message)[:32]),
	} {
		if is {
			t.Errorf("%s: it is genuine", name)
		}
	}
}
