// Client-go's informers, as a controller would have them, on one path of the feed: informers <url>
// Prints a JSON line for each event, {"synced":true} when all caches are filled, and for each line on standard input what it has:
// {"held":{"Service":{"version":"…","objects":{"shop/web":{…}}},…}}. Ends with its standard input. Built by build/kube-lab.
package main

import (
	"bufio"
	"encoding/json"
	"os"
	"sync"

	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

func main() {
	client := kubernetes.NewForConfigOrDie(&rest.Config{
		Host: os.Args[1],
		// As the controllers of Kubernetes ask.
		ContentConfig: rest.ContentConfig{
			AcceptContentTypes: "application/vnd.kubernetes.protobuf,application/json",
			ContentType:        "application/vnd.kubernetes.protobuf",
		},
	})
	factory := informers.NewSharedInformerFactory(client, 0)
	kinds := map[string]cache.SharedIndexInformer{
		"Namespace":     factory.Core().V1().Namespaces().Informer(),
		"Service":       factory.Core().V1().Services().Informer(),
		"EndpointSlice": factory.Discovery().V1().EndpointSlices().Informer(),
	}
	for kind, informer := range kinds {
		told := func(event string) func(any) {
			return func(object any) {
				key, err := cache.DeletionHandlingMetaNamespaceKeyFunc(object)
				must(err)
				say(map[string]any{"event": event, "kind": kind, "key": key})
			}
		}
		changed := told("MODIFIED")
		_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc:    told("ADDED"),
			UpdateFunc: func(_, object any) { changed(object) },
			DeleteFunc: told("DELETED"),
		})
		must(err)
	}
	stop := make(chan struct{})
	factory.Start(stop)
	go func() {
		factory.WaitForCacheSync(stop)
		say(map[string]any{"synced": true})
	}()
	for asked := bufio.NewScanner(os.Stdin); asked.Scan(); {
		held := map[string]any{}
		for kind, informer := range kinds {
			objects := map[string]any{}
			for _, key := range informer.GetStore().ListKeys() {
				if object, exists, _ := informer.GetStore().GetByKey(key); exists {
					objects[key] = object
				}
			}
			held[kind] = map[string]any{"version": informer.LastSyncResourceVersion(), "objects": objects}
		}
		say(map[string]any{"held": held})
	}
	close(stop)
}

var printing sync.Mutex

func say(line map[string]any) {
	printing.Lock()
	defer printing.Unlock()
	must(json.NewEncoder(os.Stdout).Encode(line))
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
