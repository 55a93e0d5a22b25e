// Command nyx may import all.
package main

import _ "github.com/nyxnet/nyx/internal/daemon"
