// A feed in a process of its own, for tests that kill it: node feed-process.ts <port> [<address of late.shop in east>]
import { createFeedServer } from '../../../src/io/coredns/server.ts'
import { port, service } from '../../core/dns/fixtures.ts'
import { threeClusters, withServices } from './coredns-mesh.ts'

const [, , listenPort, late] = process.argv
const view = threeClusters()
const server = createFeedServer({ listen: { address: '127.0.0.1', port: Number(listenPort) } })
await server.start()
server.update({
  view:
    late === undefined
      ? view
      : withServices(view, 'east', {
          'shop/late': service('shop/late', [late], { ports: [port('http', 80)] }),
          'shop/multi': undefined
        })
})
console.log(server.url)
