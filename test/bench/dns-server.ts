// The agent's two DNS edges in a process of their own, as in production: node dns-server.ts <dns port> <feed port>
import { createNames } from '../../src/core/dns/names.ts'
import { createDnsServer } from '../../src/io/dns/server.ts'
import { createFeedServer } from '../../src/io/coredns/server.ts'
import { benchView } from './dns-view.ts'

const [, , dnsPort, feedPort] = process.argv
const view = benchView()
const names = createNames({ view })
const address = '127.0.0.1'
const dns = createDnsServer({ listen: [{ address, port: Number(dnsPort) }], names: () => names })
const feed = createFeedServer({ listen: { address, port: Number(feedPort) } })
await dns.start()
await feed.start()
feed.update({ view })
console.log('ready')
