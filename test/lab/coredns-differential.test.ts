// The same questions to CoreDNS with the feed and to our own responder: whole answers compared, every difference named.
import assert from 'node:assert/strict'

import type { Packet, RecordType } from '@dnsquery/dns-packet'

import { createNames } from '../../src/core/dns/names.ts'
import { corefile } from '../../src/core/feed/corefile.ts'
import { createFeedServer, type FeedServer } from '../../src/io/feed/server.ts'
import { startServer, type Running } from '../io/dns/harness.ts'
import { askCoredns, startCoredns, type RunningCoredns } from './coredns.ts'
import { threeClusters } from './coredns-mesh.ts'

interface Said {
  readonly rcode: string
  readonly authoritative: boolean
  readonly answers: readonly string[]
  readonly authorities: readonly string[]
  readonly additionals: readonly string[]
}

interface Asked {
  readonly name: string
  readonly type: RecordType
  readonly coredns: Said
  readonly own: Said
}

/** How the two may differ. A difference that no row allows fails the test, and so does a row that never occurs. */
interface Difference {
  readonly what: string
  readonly allows: (asked: Asked) => boolean
}

const DIFFERENCES: readonly Difference[] = [
  {
    what: 'ANY: CoreDNS has no records for it, our responder has all',
    allows: ({ type, coredns, own }) => type === 'ANY' && isEmpty(coredns) && !isDenial(own)
  },
  {
    what: 'SOA below the apex: CoreDNS says NODATA without looking whether the name exists',
    allows: ({ type, coredns }) => type === 'SOA' && isNodata(coredns)
  },
  {
    what: '_tcp.web…, a name with names below it: CoreDNS denies it, our responder says NODATA (RFC 8020)',
    allows: ({ name, coredns, own }) => /^_(tcp|udp)\./.test(name) && isNxdomain(coredns) && isNodata(own)
  },
  {
    what: '_http._tcp.web… A: CoreDNS gives the addresses, our responder only what the specification says: SRV',
    allows: ({ name, type, coredns, own }) =>
      (type === 'A' || type === 'AAAA') && /^_[\w-]+\._/.test(name) && !isDenial(coredns) && isNodata(own)
  },
  {
    what: 'dns., ns.dns. and dns-version. of another type: CoreDNS denies them, our responder says NODATA',
    allows: ({ name, coredns, own }) =>
      /^(dns|ns\.dns|dns-version)\./.test(name) && isNxdomain(coredns) && isNodata(own)
  },
  {
    what: 'dns-version TXT: eight hours against our five seconds',
    allows: ({ name, type, coredns, own }) =>
      type === 'TXT' && name.startsWith('dns-version.') && withoutTtl(coredns) === withoutTtl(own)
  },
  {
    what: 'the name server: each names itself',
    allows: ({ name, type }) =>
      (type === 'NS' && isApex(name)) || (name.startsWith('ns.dns.') && (type === 'A' || type === 'AAAA'))
  },
  {
    what: 'TXT of the apex, svc, pod and namespaces: CoreDNS denies them, our responder says NODATA',
    allows: ({ name, type, coredns, own }) =>
      type === 'TXT' &&
      /^((\w+\.svc|svc|pod)\.)?cluster\.\w+$/.test(name) &&
      isNxdomain(coredns) &&
      isNodata(own)
  },
  {
    what: 'an alias asked for another type: CoreDNS says NODATA, our responder gives the CNAME',
    allows: ({ type, coredns, own }) =>
      type !== 'A' && type !== 'AAAA' && isNodata(coredns) && (isAlias(own) || own.rcode === 'SERVFAIL')
  },
  {
    what: 'an alias whose target is absent: CoreDNS stops at the CNAME, our responder has the rcode and SOA of the target (RFC 6604)',
    allows: ({ coredns, own }) =>
      isAlias(coredns) && own.authorities.length === 1 && same(coredns.answers, own.answers)
  },
  {
    what: 'a loop of aliases: CoreDNS gives the first CNAME or nothing, our responder SERVFAIL',
    allows: ({ name, coredns, own }) =>
      name.startsWith('loop.') && coredns.rcode === 'NOERROR' && own.rcode === 'SERVFAIL'
  },
  {
    what: 'SRV in cluster.all: targets in cluster.all against targets in the zone of their own cluster; same ports and addresses',
    allows: ({ name, type, coredns, own }) =>
      type === 'SRV' && name.endsWith('cluster.all') && same(reached(coredns), reached(own))
  },
  {
    what: 'reverse names and other types than PTR: CoreDNS denies them, our responder says NODATA',
    allows: ({ name, coredns, own }) => name.endsWith('.arpa') && isNxdomain(coredns) && isNodata(own)
  },
  {
    what: 'SOA of a reverse zone: our responder shows it in denials only',
    allows: ({ name, type, own }) => name.endsWith('.arpa') && type === 'SOA' && isNodata(own)
  },
  {
    what: 'PTR of an endpoint without a name behind a service IP: CoreDNS has one, the specification none',
    allows: ({ name, type, coredns, own }) =>
      name.endsWith('.arpa') && type === 'PTR' && !isDenial(coredns) && isNxdomain(own)
  }
]

const TYPES: readonly RecordType[] = ['A', 'AAAA', 'SRV', 'PTR', 'TXT', 'CNAME', 'NS', 'SOA', 'MX', 'ANY']

describe('CoreDNS with the feed, beside our own responder', function () {
  this.timeout(90_000)
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

  it('agrees on every question but for the differences listed', async () => {
    const seen = new Map(DIFFERENCES.map(({ what }) => [what, 0]))
    const asked = questions()
    let agreed = 0
    const unknown: Asked[] = []
    const ask = async ([name, type]: Question): Promise<void> => {
      const [theirs, ours] = await Promise.all([
        askCoredns(coredns.port, name, type),
        askCoredns(own.port, name, type)
      ])
      const both = { name: name.toLowerCase(), type, coredns: said(theirs), own: said(ours) }
      if (same(both.coredns, both.own)) {
        agreed++
        return
      }
      const known = DIFFERENCES.find(({ allows }) => allows(both))
      if (known === undefined) unknown.push(both)
      else seen.set(known.what, (seen.get(known.what) ?? 0) + 1)
    }
    for (let start = 0; start < asked.length; start += 16)
      await Promise.all(asked.slice(start, start + 16).map(ask))
    console.log(`      ${asked.length} questions, ${agreed} answers equal; the others by difference:`)
    for (const [what, count] of seen) console.log(`      ${String(count).padStart(5)} ${what}`)
    assert.deepEqual(unknown.slice(0, 5), [], `${unknown.length} differences that nobody listed`)
    const unseen = [...seen].filter(([, count]) => count === 0).map(([what]) => what)
    assert.deepEqual(unseen, [], 'differences that no longer occur: take them off the list')
  })

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

type Question = readonly [name: string, type: RecordType]

/** Every type where one differs from the others, the three with records elsewhere. */
function questions(): readonly Question[] {
  const ports = ['_http._tcp.', '_tcp.', '_udp.', '_nope._tcp.', '_dns._udp.', '_pg._tcp.', '_rtsp-udp._udp.']
  const endpoints = [
    'db-0.',
    'web-0.',
    'twin.',
    '10-1-0-1.',
    '10-21-0-2.',
    '10-2-0-1.',
    'fd00-1--14.',
    'a.b.c.'
  ]
  const hosts = ['', 'svc.', 'pod.', 'shop.svc.', 'other.svc.', 'nosuch.', 'dns-version.', 'dns.', 'ns.dns.']
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
        ['A', 'SRV']
      ),
      ...each(
        services.map((name) => `_tcp.${name}`),
        ['TXT']
      )
    ]
  })
  const addresses =
    '10.2.0.1 10.2.0.200 10.12.0.1 10.1.0.1 10.1.0.11 10.1.0.13 10.1.0.19 10.1.0.20 10.11.0.11 10.21.0.1 10.22.0.7'.split(
      ' '
    )
  const reverse = addresses.map((ip) => `${ip.split('.').toReversed().join('.')}.in-addr.arpa`)
  return [...inZones, ...each([...reverse, '0.2.10.in-addr.arpa', '2.10.in-addr.arpa'], ['PTR', 'A', 'SOA'])]
}

function each(names: readonly string[], types: readonly RecordType[]): readonly Question[] {
  return names.flatMap((name) => types.map((type): Question => [name, type]))
}

/** The serial is each server's own; OPT belongs to the connection. */
function said(packet: Packet): Said {
  const { answers = [], authorities = [], additionals = [] } = packet
  const text = (record: (typeof answers)[number]): string => {
    if (record.type === 'OPT') return ''
    const data = record.type === 'SOA' ? { ...record.data, serial: 0 } : record.data
    const shown = JSON.stringify(record.type === 'TXT' ? [record.data].flat().map(String) : data)
    return `${record.name.toLowerCase()} ${record.ttl ?? 0} ${record.type} ${shown}`
  }
  const texts = (records: typeof answers): readonly string[] =>
    records
      .map(text)
      .filter((line) => line !== '')
      .sort()
  return {
    rcode: 'rcode' in packet ? packet.rcode : 'NOERROR',
    authoritative: packet.flag_aa ?? false,
    answers: texts(answers),
    authorities: texts(authorities),
    additionals: texts(additionals)
  }
}

function same(left: unknown, right: unknown): boolean {
  return JSON.stringify(left) === JSON.stringify(right)
}

function isNxdomain({ rcode, answers }: Said): boolean {
  return rcode === 'NXDOMAIN' && answers.length === 0
}

function isNodata({ rcode, answers, authorities }: Said): boolean {
  return rcode === 'NOERROR' && answers.length === 0 && authorities.length === 1
}

function isEmpty(said: Said): boolean {
  return said.answers.length === 0 || isAlias(said)
}

function isDenial(said: Said): boolean {
  return isNxdomain(said) || isNodata(said)
}

function isAlias({ answers }: Said): boolean {
  return answers.some((line) => line.includes(' CNAME '))
}

function isApex(name: string): boolean {
  return /^cluster\.\w+$/.test(name) || name.endsWith('.arpa')
}

function withoutTtl(said: Said): string {
  return JSON.stringify(said).replaceAll(/ \d+ TXT/g, ' TXT')
}

/** The ports of SRV answers and the addresses that come with them. */
function reached({ answers, additionals }: Said): readonly string[] {
  const ports = answers.flatMap((line) => /"port":\d+/.exec(line) ?? [])
  const targets = additionals.map((line) => line.replace(/^\S+/, ''))
  return [...new Set([...ports, ...targets])].sort()
}

function addresses({ answers }: Said): readonly string[] {
  return answers.filter((line) => / (A|AAAA) /.test(line))
}
