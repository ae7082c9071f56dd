// The same questions to CoreDNS with the feed and to our own responder: whole answers compared, every difference named.
import assert from 'node:assert/strict'

import type { RecordType } from '@dnsquery/dns-packet'

import { createNames } from '../../src/core/dns/names.ts'
import { corefile } from '../../src/core/coredns/corefile.ts'
import { createFeedServer, type FeedServer } from '../../src/io/coredns/server.ts'
import { startServer, type Running } from '../io/dns/harness.ts'
import { askCoredns, startCoredns, type RunningCoredns } from './support/coredns.ts'
import {
  assertSameAnswers,
  each,
  isNxdomain,
  said,
  same,
  type Difference,
  type Question,
  type Said
} from './support/coredns-compare.ts'
import { threeClusters } from './support/coredns-mesh.ts'

const DIFFERENCES: readonly Difference[] = [
  {
    what: 'SRV in cluster.all: targets in cluster.all against targets in the zone of their own cluster; same ports and addresses',
    allows: ({ name, type, coredns, own }) =>
      type === 'SRV' && name.endsWith('cluster.all') && same(reached(coredns), reached(own))
  },
  {
    what: 'a cluster that does not exist: no zone of this CoreDNS, while our responder denies its svc names for five seconds',
    allows: ({ name, coredns, own }) =>
      name.endsWith('.svc.cluster.nosuch') && !coredns.authoritative && isNxdomain(own)
  }
]

const TYPES: readonly RecordType[] = ['A', 'AAAA', 'SRV', 'PTR', 'TXT', 'CNAME', 'NS', 'SOA', 'MX', 'ANY']

describe('CoreDNS with the feed, beside our own responder', function () {
  const view = threeClusters()
  let feed: FeedServer
  let coredns: RunningCoredns
  let own: Running

  before(async () => {
    feed = createFeedServer({ listen: { address: '127.0.0.1', port: 0 } })
    await feed.start()
    feed.update({ view })
    const options = { feedUrl: feed.url, bind: ['127.0.0.1'] }
    coredns = await startCoredns((port) => corefile(view, { ...options, port }), 'cluster.all')
    const names = createNames({ view })
    own = await startServer({ names: () => names })
  })

  after(async () => {
    await coredns?.stop()
    await feed?.stop()
    await own?.server.stop()
  })

  it('agrees on every question but for the differences listed', () =>
    assertSameAnswers({ coredns: coredns.port, own: own.port }, questions(), DIFFERENCES))

  it('agrees on A and AAAA of every service in every zone', async () => {
    for (const cluster of ['east', 'west', 'edge', 'all']) {
      for (const service of SERVICES) {
        const name = `${service}.svc.cluster.${cluster}`
        for (const type of ['A', 'AAAA'] as const) {
          const [theirs, ours] = [
            said(await askCoredns(coredns.port, name, type)),
            said(await askCoredns(own.port, name, type))
          ]
          assert.deepEqual(addresses(theirs), addresses(ours), `${name} ${type}`)
        }
      }
    }
  })
})

const SERVICES =
  `web multi empty dual six unnamed db cold eager portless pay pointer dangling literal mixed nosuch`
    .split(' ')
    .map((name) => `${name}.shop`)
    .concat('camera.devices', 'web.devices', 'web.nowhere')

/** Every type where one differs from the others, the three with records elsewhere. */
function questions(): readonly Question[] {
  const ports =
    '_http._tcp. _tcp. _udp. _nope._tcp. _dns._udp. _pg._tcp. _rtsp-udp._udp. http.tcp. _http._udp. _._tcp. _http._. _._. __http._tcp.'.split(
      ' '
    )
  const endpoints = [
    'db-0.',
    'web-0.',
    'twin.',
    '10-1-0-1.',
    '10-21-0-2.',
    '10-2-0-1.',
    'fd00-1--14.',
    'fd00-21--0.',
    'a.b.c.'
  ]
  const hosts = [
    '',
    'x.dns.',
    'svc.',
    'pod.',
    'shop.svc.',
    'other.svc.',
    'nosuch.',
    'dns-version.',
    'dns.',
    'ns.dns.'
  ]
  const cased = ['shop.pod.', '10-1-0-1.shop.pod.', 'WEB.Shop.svc.', 'DB-0.dB.shop.SVC.']
  const inZones = ['cluster.east', 'cluster.west', 'cluster.edge', 'cluster.all'].flatMap((zone) => {
    const services = [...SERVICES, 'loop.shop'].map((service) => `${service}.svc.${zone}`)
    return [
      ...each(
        [...hosts, ...cased].map((name) => `${name}${zone}`),
        TYPES
      ),
      ...each(services, TYPES),
      ...each(
        services.flatMap((name) => [...ports, ...endpoints].map((prefix) => prefix + name)),
        ['A', 'AAAA', 'SRV']
      ),
      ...each(
        services.flatMap((name) => [`_tcp.${name}`, `_http._tcp.${name}`, `db-0.${name}`]),
        ['TXT', 'CNAME', 'SOA', 'NS', 'ANY']
      )
    ]
  })
  const addresses =
    '10.2.0.1 10.2.0.200 10.12.0.1 10.1.0.1 10.1.0.11 10.1.0.13 10.1.0.19 10.1.0.20 10.11.0.11 10.21.0.1 10.22.0.7'.split(
      ' '
    )
  const reverse = addresses.map((ip) => `${ip.split('.').toReversed().join('.')}.in-addr.arpa`)
  const below = ['0', 'x', '1.1.0', '01.0', '256.0', 'svc', 'dns-version', 'ns.dns', 'web.shop.svc', 'x.1.0']
  return [
    ...inZones,
    ...each([...reverse, '2.10.in-addr.arpa', ...below.map((name) => `${name}.2.10.in-addr.arpa`)], TYPES),
    ...each(IPV6_REVERSE, TYPES),
    ['web.shop.svc.cluster.nosuch', 'A']
  ]
}

/** Of fd00:1::14 and absent addresses, of a name above them and of the zone. */
const IPV6_REVERSE = [`4.1.${'0.'.repeat(22)}`, '0.'.repeat(24), `9.${'0.'.repeat(23)}`, '0.0.', ''].map(
  (left) => `${left}1.0.0.0.0.0.d.f.ip6.arpa`
)

/** The ports of SRV answers and the addresses that come with them. */
function reached({ answers, additionals }: Said): readonly string[] {
  const ports = answers.flatMap((line) => /"port":\d+/.exec(line) ?? [])
  const targets = additionals.map((line) => line.replace(/^\S+/, ''))
  return [...new Set([...ports, ...targets])].sort()
}

function addresses({ answers }: Said): readonly string[] {
  return answers.filter((line) => / (A|AAAA) /.test(line))
}
