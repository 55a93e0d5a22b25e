package link

import (
	"os"
	"sync"
)
