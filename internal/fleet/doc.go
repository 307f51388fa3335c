// Package fleet works the big red button: it presses and lifts it, tells the nodes of it, and gathers
// from their own words which of them obey.
//
// What a node says about itself is believed, and nothing that it says is about another: a notice comes on the
// subject that only its sender may publish to.
package fleet
