// Package settings defines every setting of every command once: its name, type,
// default and help. Flags, environment, file and reference follow from that.
//
// A setting is given, later ones winning, by
//
//	its default
//	a file        rotate_size = 1GiB                 (Choria's plugin.d style; # begins a line of comment)
//	environment   LOGFORWARD_ROTATE_SIZE=1GiB
//	a flag        --rotate-size 1GiB
//
// Destinations have names of the user's choosing:
//
//	a file        destination.central.url = nats://logs.example.net
//	environment   LOGFORWARD_DESTINATION_CENTRAL_URL=nats://logs.example.net
//	a flag        --destination central.url=nats://logs.example.net
//
// A file may hold settings of several commands: each takes its own. A name that no
// command has is an error.
package settings
