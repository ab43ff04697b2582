// Command etcd is the etcd server, built from its Go module because no package registry carries a current binary.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() { etcdmain.Main(os.Args) }
