package main

func (c *campaign) mutate(pattern, file string) int { return 0 }
