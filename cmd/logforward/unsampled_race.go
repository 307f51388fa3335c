//go:build race

package main

func unsampled() {}
