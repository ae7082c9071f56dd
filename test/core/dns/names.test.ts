import assert from 'node:assert/strict'

import * as fc from 'fast-check'

import { createNames, type Names } from '../../../src/core/dns/names.ts'
import type { Answer, DnsRecord } from '../../../src/core/dns/record.ts'
import type { Ip } from '../../../src/core/model/values.ts'
import { cluster, endpoint, meshOf, service, shopMesh, slice } from './fixtures.ts'

const names = createNames({ view: shopMesh() })

const SOA_EAST = 'cluster.east 5 SOA ns.dns.cluster.east hostmaster.cluster.east 1 7200 1800 86400 5'
const SOA_ALL = 'cluster.all 5 SOA ns.dns.cluster.all hostmaster.cluster.all 1 7200 1800 86400 5'
const SOA_REVERSE = SOA_EAST.replaceAll('cluster.east', '2.10.in-addr.arpa')

interface Row {
  readonly why: string
  readonly ask: string
  readonly rcode?: Answer['rcode']
  readonly answers?: readonly string[]
  readonly additionals?: readonly string[]
  /** The owner of the SOA in the authority section; undefined: none. */
  readonly soa?: string
}

// After the tables of CoreDNS's kubernetes plugin; "<name> <type>" asks, "<name> <ttl> <type> <data>" answers.
const TABLE: readonly Row[] = [
  // Cluster IP services
  {
    why: 'A of a service',
    ask: 'web.shop.svc.cluster.east A',
    answers: ['web.shop.svc.cluster.east 5 A 10.2.0.1']
  },
  {
    why: 'a service without endpoints keeps its address',
    ask: 'empty.shop.svc.cluster.east A',
    answers: ['empty.shop.svc.cluster.east 5 A 10.2.0.4']
  },
  { why: 'AAAA of an IPv4 service is NODATA', ask: 'web.shop.svc.cluster.east AAAA', soa: SOA_EAST },
  { why: 'A of an IPv6 service is NODATA', ask: 'six.shop.svc.cluster.east A', soa: SOA_EAST },
  {
    why: 'AAAA of an IPv6 service',
    ask: 'six.shop.svc.cluster.east AAAA',
    answers: ['six.shop.svc.cluster.east 5 AAAA fd00:2::6']
  },
  {
    why: 'A of dual stack',
    ask: 'dual.shop.svc.cluster.east A',
    answers: ['dual.shop.svc.cluster.east 5 A 10.2.0.5']
  },
  {
    why: 'AAAA of dual stack',
    ask: 'dual.shop.svc.cluster.east AAAA',
    answers: ['dual.shop.svc.cluster.east 5 AAAA fd00:2::5']
  },
  {
    why: 'ANY is NODATA, as RFC 8482 has it for those who will not list everything',
    ask: 'dual.shop.svc.cluster.east ANY',
    soa: SOA_EAST
  },
  {
    why: 'mixed case matches, and the answer keeps the case of the question',
    ask: 'wEb.ShOp.sVc.ClUsTeR.eAsT A',
    answers: ['wEb.ShOp.sVc.ClUsTeR.eAsT 5 A 10.2.0.1']
  },
  {
    why: 'a trailing dot is the same name',
    ask: 'web.shop.svc.cluster.east. A',
    answers: ['web.shop.svc.cluster.east. 5 A 10.2.0.1']
  },
  { why: 'TXT of a service is NODATA', ask: 'web.shop.svc.cluster.east TXT', soa: SOA_EAST },
  { why: 'HTTPS of a service is NODATA', ask: 'web.shop.svc.cluster.east TYPE65', soa: SOA_EAST },
  { why: 'SOA below the apex is NODATA', ask: 'web.shop.svc.cluster.east SOA', soa: SOA_EAST },
  { why: 'CNAME of a service is NODATA', ask: 'web.shop.svc.cluster.east CNAME', soa: SOA_EAST },
  { why: 'absent service', ask: 'nosuch.shop.svc.cluster.east A', rcode: 'NXDOMAIN', soa: SOA_EAST },
  { why: 'absent service, AAAA', ask: 'nosuch.shop.svc.cluster.east AAAA', rcode: 'NXDOMAIN', soa: SOA_EAST },
  { why: 'absent service, TXT', ask: 'nosuch.shop.svc.cluster.east TXT', rcode: 'NXDOMAIN', soa: SOA_EAST },
  { why: 'absent namespace', ask: 'web.nosuch.svc.cluster.east A', rcode: 'NXDOMAIN', soa: SOA_EAST },
  { why: 'a wildcard is no name', ask: '*.shop.svc.cluster.east A', rcode: 'NXDOMAIN', soa: SOA_EAST },

  // SRV
  {
    why: 'SRV of a named port',
    ask: '_http._tcp.web.shop.svc.cluster.east SRV',
    answers: ['_http._tcp.web.shop.svc.cluster.east 5 SRV 0 100 80 web.shop.svc.cluster.east'],
    additionals: ['web.shop.svc.cluster.east 5 A 10.2.0.1']
  },
  {
    why: 'SRV in mixed case',
    ask: '_HTTP._TCP.web.shop.svc.cluster.east SRV',
    answers: ['_HTTP._TCP.web.shop.svc.cluster.east 5 SRV 0 100 80 web.shop.svc.cluster.east'],
    additionals: ['web.shop.svc.cluster.east 5 A 10.2.0.1']
  },
  {
    why: 'SRV of a service lists every port',
    ask: 'multi.shop.svc.cluster.east SRV',
    answers: [
      'multi.shop.svc.cluster.east 5 SRV 0 50 53 multi.shop.svc.cluster.east',
      'multi.shop.svc.cluster.east 5 SRV 0 50 9153 multi.shop.svc.cluster.east'
    ],
    additionals: ['multi.shop.svc.cluster.east 5 A 10.2.0.3']
  },
  {
    why: 'SRV over UDP',
    ask: '_dns._udp.multi.shop.svc.cluster.east SRV',
    answers: ['_dns._udp.multi.shop.svc.cluster.east 5 SRV 0 100 53 multi.shop.svc.cluster.east'],
    additionals: ['multi.shop.svc.cluster.east 5 A 10.2.0.3']
  },
  {
    why: 'SRV of dual stack has one target with two addresses',
    ask: 'dual.shop.svc.cluster.east SRV',
    answers: ['dual.shop.svc.cluster.east 5 SRV 0 50 80 dual.shop.svc.cluster.east'],
    additionals: ['dual.shop.svc.cluster.east 5 A 10.2.0.5', 'dual.shop.svc.cluster.east 5 AAAA fd00:2::5']
  },
  {
    why: 'a port without a name is listed by the service',
    ask: 'unnamed.shop.svc.cluster.east SRV',
    answers: ['unnamed.shop.svc.cluster.east 5 SRV 0 100 8080 unnamed.shop.svc.cluster.east'],
    additionals: ['unnamed.shop.svc.cluster.east 5 A 10.2.0.7']
  },
  {
    why: 'an underscore alone is any port, one without a name, too',
    ask: '_._tcp.unnamed.shop.svc.cluster.east SRV',
    answers: ['_._tcp.unnamed.shop.svc.cluster.east 5 SRV 0 100 8080 unnamed.shop.svc.cluster.east'],
    additionals: ['unnamed.shop.svc.cluster.east 5 A 10.2.0.7']
  },
  {
    why: 'an underscore alone is any port, but not of another protocol',
    ask: '_._udp.unnamed.shop.svc.cluster.east SRV',
    rcode: 'NXDOMAIN',
    soa: SOA_EAST
  },
  {
    why: 'two underscores alone are the service',
    ask: '_._.web.shop.svc.cluster.east A',
    answers: ['_._.web.shop.svc.cluster.east 5 A 10.2.0.1']
  },
  {
    why: 'SRV of the wrong protocol',
    ask: '_http._udp.web.shop.svc.cluster.east SRV',
    rcode: 'NXDOMAIN',
    soa: SOA_EAST
  },
  {
    why: 'SRV of an absent port',
    ask: '_ftp._tcp.web.shop.svc.cluster.east SRV',
    rcode: 'NXDOMAIN',
    soa: SOA_EAST
  },
  {
    why: 'A of a port name is that of the service',
    ask: '_http._tcp.web.shop.svc.cluster.east A',
    answers: ['_http._tcp.web.shop.svc.cluster.east 5 A 10.2.0.1']
  },
  { why: 'AAAA of a port name', ask: '_http._tcp.web.shop.svc.cluster.east AAAA', soa: SOA_EAST },
  {
    why: 'underscores are optional',
    ask: 'http.tcp.web.shop.svc.cluster.east SRV',
    answers: ['http.tcp.web.shop.svc.cluster.east 5 SRV 0 100 80 web.shop.svc.cluster.east'],
    additionals: ['web.shop.svc.cluster.east 5 A 10.2.0.1']
  },

  // Headless services and endpoints
  {
    why: 'A of a headless service: its published IPv4 endpoints',
    ask: 'db.shop.svc.cluster.east A',
    answers: ['10.1.0.11', '10.1.0.12', '10.1.0.13'].map((ip) => `db.shop.svc.cluster.east 5 A ${ip}`)
  },
  {
    why: 'AAAA of a headless service',
    ask: 'db.shop.svc.cluster.east AAAA',
    answers: ['db.shop.svc.cluster.east 5 AAAA fd00:1::14']
  },
  {
    why: 'A of an endpoint by host name',
    ask: 'db-0.db.shop.svc.cluster.east A',
    answers: ['db-0.db.shop.svc.cluster.east 5 A 10.1.0.11']
  },
  {
    why: 'endpoints that share a host name',
    ask: 'twin.db.shop.svc.cluster.east A',
    answers: ['10.1.0.12', '10.1.0.13'].map((ip) => `twin.db.shop.svc.cluster.east 5 A ${ip}`)
  },
  {
    why: 'AAAA of an endpoint by dashed address',
    ask: 'fd00-1--14.db.shop.svc.cluster.east AAAA',
    answers: ['fd00-1--14.db.shop.svc.cluster.east 5 AAAA fd00:1::14']
  },
  {
    why: 'an endpoint with a host name has no dashed one',
    ask: '10-1-0-11.db.shop.svc.cluster.east A',
    rcode: 'NXDOMAIN',
    soa: SOA_EAST
  },
  {
    why: 'an endpoint that is not ready',
    ask: 'db-9.db.shop.svc.cluster.east A',
    rcode: 'NXDOMAIN',
    soa: SOA_EAST
  },
  { why: 'AAAA of an IPv4 endpoint is NODATA', ask: 'db-0.db.shop.svc.cluster.east AAAA', soa: SOA_EAST },
  {
    why: 'SRV of a headless service',
    ask: '_pg._tcp.db.shop.svc.cluster.east SRV',
    answers: ['db-0', 'twin', 'fd00-1--14'].map(
      (label) => `_pg._tcp.db.shop.svc.cluster.east 5 SRV 0 25 5432 ${label}.db.shop.svc.cluster.east`
    ),
    additionals: [
      'db-0.db.shop.svc.cluster.east 5 A 10.1.0.11',
      'twin.db.shop.svc.cluster.east 5 A 10.1.0.12',
      'twin.db.shop.svc.cluster.east 5 A 10.1.0.13',
      'fd00-1--14.db.shop.svc.cluster.east 5 AAAA fd00:1::14'
    ]
  },
  {
    why: 'SRV of an endpoint',
    ask: 'db-0.db.shop.svc.cluster.east SRV',
    answers: ['db-0.db.shop.svc.cluster.east 5 SRV 0 100 5432 db-0.db.shop.svc.cluster.east'],
    additionals: ['db-0.db.shop.svc.cluster.east 5 A 10.1.0.11']
  },
  {
    why: 'headless without a ready endpoint',
    ask: 'cold.shop.svc.cluster.east A',
    rcode: 'NXDOMAIN',
    soa: SOA_EAST
  },
  {
    why: 'publishNotReadyAddresses',
    ask: 'eager.shop.svc.cluster.east A',
    answers: ['eager.shop.svc.cluster.east 5 A 10.1.0.31']
  },
  {
    why: 'headless without ports has addresses',
    ask: 'portless.shop.svc.cluster.east A',
    answers: ['portless.shop.svc.cluster.east 5 A 10.1.0.20']
  },
  { why: 'headless without ports has no SRV', ask: 'portless.shop.svc.cluster.east SRV', soa: SOA_EAST },
  {
    why: 'an endpoint of a cluster IP service',
    ask: '10-1-0-1.web.shop.svc.cluster.east A',
    answers: ['10-1-0-1.web.shop.svc.cluster.east 5 A 10.1.0.1']
  },
  { why: 'an absent endpoint', ask: 'bogus.db.shop.svc.cluster.east A', rcode: 'NXDOMAIN', soa: SOA_EAST },
  {
    why: 'an endpoint of an absent service',
    ask: 'db-0.nosuch.shop.svc.cluster.east A',
    rcode: 'NXDOMAIN',
    soa: SOA_EAST
  },
  {
    why: 'a name too long for any',
    ask: 'a.b.c.web.shop.svc.cluster.east A',
    rcode: 'NXDOMAIN',
    soa: SOA_EAST
  },

  // ExternalName
  {
    why: 'CNAME of an external name',
    ask: 'pay.shop.svc.cluster.east CNAME',
    answers: ['pay.shop.svc.cluster.east 5 CNAME pay.example.com']
  },
  {
    why: 'A of an external name is the CNAME, for the edge to follow',
    ask: 'pay.shop.svc.cluster.east A',
    answers: ['pay.shop.svc.cluster.east 5 CNAME pay.example.com']
  },
  {
    why: 'an external name inside the mesh is followed',
    ask: 'pointer.shop.svc.cluster.east A',
    answers: [
      'pointer.shop.svc.cluster.east 5 CNAME web.shop.svc.cluster.west',
      'web.shop.svc.cluster.west 5 A 10.12.0.1'
    ]
  },
  {
    why: 'followed into another zone, to NODATA',
    ask: 'pointer.shop.svc.cluster.east AAAA',
    answers: ['pointer.shop.svc.cluster.east 5 CNAME web.shop.svc.cluster.west']
  },
  {
    why: 'followed into another zone, to a name that does not exist',
    ask: 'dangling.shop.svc.cluster.east A',
    answers: ['dangling.shop.svc.cluster.east 5 CNAME nosuch.shop.svc.cluster.west']
  },
  {
    why: 'another type of an external name is NODATA',
    ask: 'pay.shop.svc.cluster.east TXT',
    soa: SOA_EAST
  },
  {
    why: 'an external name that loops in another zone',
    ask: 'loop.shop.svc.cluster.east A',
    answers: ['loop.shop.svc.cluster.east 5 CNAME loop.shop.svc.cluster.all']
  },
  {
    why: 'an external name that loops in its own zone is NODATA',
    ask: 'loop.shop.svc.cluster.all A',
    soa: SOA_ALL
  },
  {
    why: 'an external name that is an address',
    ask: 'literal.shop.svc.cluster.east A',
    rcode: 'NXDOMAIN',
    soa: SOA_EAST
  },
  {
    why: 'no name below an external name',
    ask: 'x.pay.shop.svc.cluster.east CNAME',
    rcode: 'NXDOMAIN',
    soa: SOA_EAST
  },

  // Empty non-terminals, apex, version
  { why: 'svc', ask: 'svc.cluster.east A', soa: SOA_EAST },
  { why: 'pod', ask: 'pod.cluster.east A', soa: SOA_EAST },
  { why: 'a pod name', ask: '10-1-0-1.shop.pod.cluster.east A', rcode: 'NXDOMAIN', soa: SOA_EAST },
  { why: 'a namespace', ask: 'shop.svc.cluster.east A', soa: SOA_EAST },
  { why: 'NS of a namespace', ask: 'shop.svc.cluster.east NS', soa: SOA_EAST },
  { why: 'NS of svc', ask: 'svc.cluster.east NS', soa: SOA_EAST },
  { why: 'NS of an absent namespace', ask: 'foo.svc.cluster.east NS', rcode: 'NXDOMAIN', soa: SOA_EAST },
  { why: 'NS of an absent name', ask: 'foo.cluster.east NS', rcode: 'NXDOMAIN', soa: SOA_EAST },
  { why: 'TXT of a namespace', ask: 'shop.svc.cluster.east TXT', rcode: 'NXDOMAIN', soa: SOA_EAST },
  { why: 'TXT of svc', ask: 'svc.cluster.east TXT', rcode: 'NXDOMAIN', soa: SOA_EAST },
  {
    why: 'a protocol of a service',
    ask: '_tcp.web.shop.svc.cluster.east SRV',
    rcode: 'NXDOMAIN',
    soa: SOA_EAST
  },
  { why: 'SOA of the apex', ask: 'cluster.east SOA', answers: [SOA_EAST] },
  { why: 'NS of the apex, where the name server has no address', ask: 'cluster.east NS', soa: SOA_EAST },
  { why: 'TXT of the apex', ask: 'cluster.east TXT', rcode: 'NXDOMAIN', soa: SOA_EAST },
  { why: 'A of the apex is NODATA', ask: 'cluster.east A', soa: SOA_EAST },
  {
    why: 'dns-version',
    ask: 'dns-version.cluster.east TXT',
    answers: ['dns-version.cluster.east 28800 TXT 1.1.0']
  },
  { why: 'A of dns-version', ask: 'dns-version.cluster.east A', rcode: 'NXDOMAIN', soa: SOA_EAST },
  { why: 'dns', ask: 'dns.cluster.east A', rcode: 'NXDOMAIN', soa: SOA_EAST },
  { why: 'SRV of the name server', ask: 'ns.dns.cluster.east SRV', soa: SOA_EAST },
  { why: 'TXT of the name server', ask: 'ns.dns.cluster.east TXT', rcode: 'NXDOMAIN', soa: SOA_EAST },
  { why: 'SOA below the apex, of an absent name', ask: 'foo.cluster.east SOA', soa: SOA_EAST },

  // cluster.all
  {
    why: 'A of cluster.all: the service IPs of all clusters',
    ask: 'web.shop.svc.cluster.all A',
    answers: ['web.shop.svc.cluster.all 5 A 10.2.0.1', 'web.shop.svc.cluster.all 5 A 10.12.0.1']
  },
  {
    why: 'SRV of cluster.all: targets stay in the zone of their cluster',
    ask: '_http._tcp.web.shop.svc.cluster.all SRV',
    answers: [
      '_http._tcp.web.shop.svc.cluster.all 5 SRV 0 50 80 web.shop.svc.cluster.east',
      '_http._tcp.web.shop.svc.cluster.all 5 SRV 0 50 80 web.shop.svc.cluster.west'
    ],
    additionals: ['web.shop.svc.cluster.east 5 A 10.2.0.1', 'web.shop.svc.cluster.west 5 A 10.12.0.1']
  },
  {
    why: 'headless in cluster.all: the endpoints of all clusters',
    ask: 'db.shop.svc.cluster.all A',
    answers: ['10.1.0.11', '10.1.0.12', '10.1.0.13', '10.11.0.11'].map(
      (ip) => `db.shop.svc.cluster.all 5 A ${ip}`
    )
  },
  {
    why: 'one endpoint name in two clusters',
    ask: 'db-0.db.shop.svc.cluster.all A',
    answers: ['10.1.0.11', '10.11.0.11'].map((ip) => `db-0.db.shop.svc.cluster.all 5 A ${ip}`)
  },
  {
    why: 'a service of one cluster only',
    ask: 'multi.shop.svc.cluster.all A',
    answers: ['multi.shop.svc.cluster.all 5 A 10.2.0.3']
  },
  {
    why: 'addresses win over an external name in another cluster',
    ask: 'mixed.shop.svc.cluster.all A',
    answers: ['mixed.shop.svc.cluster.all 5 A 10.12.0.9']
  },
  {
    why: 'an external name in cluster.all',
    ask: 'pay.shop.svc.cluster.all A',
    answers: ['pay.shop.svc.cluster.all 5 CNAME pay.example.com']
  },
  { why: 'NODATA in cluster.all', ask: 'web.shop.svc.cluster.all AAAA', soa: SOA_ALL },
  { why: 'NXDOMAIN in cluster.all', ask: 'nosuch.shop.svc.cluster.all A', rcode: 'NXDOMAIN', soa: SOA_ALL },
  {
    why: 'dns-version of cluster.all',
    ask: 'dns-version.cluster.all TXT',
    answers: ['dns-version.cluster.all 28800 TXT 1.1.0']
  },

  // Unknown clusters
  {
    why: 'a service of a cluster that does not exist',
    ask: 'web.shop.svc.cluster.nowhere A',
    rcode: 'NXDOMAIN',
    soa: SOA_EAST.replaceAll('east', 'nowhere')
  },

  // Reverse
  {
    why: 'PTR of a service IP',
    ask: '1.0.2.10.in-addr.arpa PTR',
    answers: ['1.0.2.10.in-addr.arpa 5 PTR web.shop.svc.cluster.east']
  },
  {
    why: 'PTR of an IPv6 service IP',
    ask: '6.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.2.0.0.0.0.0.d.f.ip6.arpa PTR',
    answers: [
      '6.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.2.0.0.0.0.0.d.f.ip6.arpa 5 PTR six.shop.svc.cluster.east'
    ]
  },
  {
    why: 'PTR of an endpoint with a host name, in the zone of its cluster',
    ask: '11.0.11.10.in-addr.arpa PTR',
    answers: ['11.0.11.10.in-addr.arpa 5 PTR db-0.db.shop.svc.cluster.west']
  },
  {
    why: 'PTR of a headless endpoint by dashed address',
    ask: '4.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.0.0.0.0.D.F.ip6.arpa PTR',
    answers: [
      '4.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.0.0.0.0.D.F.ip6.arpa 5 PTR fd00-1--14.db.shop.svc.cluster.east'
    ]
  },
  {
    why: 'PTR of an endpoint behind a cluster IP',
    ask: '1.0.1.10.in-addr.arpa PTR',
    answers: ['1.0.1.10.in-addr.arpa 5 PTR 10-1-0-1.web.shop.svc.cluster.east']
  },
  {
    why: 'PTR of an endpoint that is not ready',
    ask: '19.0.1.10.in-addr.arpa PTR',
    rcode: 'NXDOMAIN',
    soa: SOA_EAST.replaceAll('cluster.east', '1.10.in-addr.arpa')
  },
  { why: 'A of a reverse name', ask: '1.0.2.10.in-addr.arpa A', rcode: 'NXDOMAIN', soa: SOA_REVERSE },
  {
    why: 'a reverse name above the addresses',
    ask: '0.2.10.in-addr.arpa PTR',
    rcode: 'NXDOMAIN',
    soa: SOA_REVERSE
  },
  { why: 'SOA of a reverse zone', ask: '2.10.in-addr.arpa SOA', answers: [SOA_REVERSE] },
  { why: 'A of a reverse zone is NODATA', ask: '2.10.in-addr.arpa A', soa: SOA_REVERSE },
  ...['01.0', '256.0', '1.0.0', 'x'].map((left) => ({
    why: 'a name in a reverse zone that is no address',
    ask: `${left}.2.10.in-addr.arpa PTR`,
    rcode: 'NXDOMAIN' as const,
    soa: SOA_REVERSE
  }))
]

describe('names: what the mesh answers', () => {
  for (const { why, ask, rcode = 'NOERROR', answers = [], additionals = [], soa } of TABLE) {
    it(`${why}: ${ask}`, () => {
      const reply = answered(names, ask)
      assert.deepEqual(
        {
          rcode: reply.rcode,
          answers: reply.answers.map(format),
          additionals: reply.additionals.map(format),
          authority: reply.authority.map(format)
        },
        { rcode, answers, additionals, authority: soa === undefined ? [] : [soa] }
      )
      assert.equal(reply.authoritative, rcode !== 'SERVFAIL')
    })
  }

  for (const ask of [
    'example.com A',
    'cluster.local A',
    'kubernetes.default.svc.cluster.local A',
    'www.cluster.com A',
    'cluster.nowhere SOA',
    'cluster A',
    '. NS',
    'east A',
    'cluster.clusterset.local.example A',
    'notcluster.east A',
    '8.8.8.8.in-addr.arpa PTR',
    '10.in-addr.arpa PTR',
    '01.0.9.10.in-addr.arpa PTR',
    'x.0.0.0.0.d.f.ip6.arpa PTR',
    'in-addr.arpa PTR',
    'a..b A'
  ]) {
    it(`forwards ${ask}`, () => {
      const [name = '', type = ''] = ask.split(' ')
      assert.deepEqual(names.answer({ name, type }), { kind: 'forward' })
    })
  }

  it('names the external target that the edge is to resolve, and only then', () => {
    assert.equal(answered(names, 'pay.shop.svc.cluster.east A').externalTarget, 'pay.example.com')
    assert.equal(answered(names, 'pay.shop.svc.cluster.east CNAME').externalTarget, undefined)
    assert.equal(answered(names, 'pointer.shop.svc.cluster.east A').externalTarget, undefined)
  })

  it('cuts a prefix that ends inside a label into zones of whole labels', () => {
    const view = meshOf(cluster('east', { podPrefixes: ['10.1.16.0/20'], servicePrefixes: ['fd00:2::/33'] }))
    const cut = createNames({ view })
    assert.deepEqual(answered(cut, '9.17.1.10.in-addr.arpa PTR').authority.map(format), [
      SOA_EAST.replaceAll('cluster.east', '17.1.10.in-addr.arpa')
    ])
    assert.equal(answered(cut, '31.1.10.in-addr.arpa SOA').answers.length, 1)
    assert.equal(answered(cut, '7.2.0.0.0.0.0.d.f.ip6.arpa SOA').answers.length, 1)
    for (const name of ['32.1.10.in-addr.arpa', '1.10.in-addr.arpa', '8.2.0.0.0.0.0.d.f.ip6.arpa']) {
      assert.deepEqual(cut.answer({ name, type: 'SOA' }), { kind: 'forward' })
    }
  })

  it('follows aliases in a row, through zones and out of the mesh, and no loop for ever', () => {
    const alias = (key: string, to: string) => service(key, [], { externalName: to })
    const chain = Array.from({ length: 13 }, (_, i) =>
      alias(`a/n${i}`, i === 12 ? 'end.example.com' : `n${i + 1}.a.svc.cluster.east`)
    )
    const view = meshOf(
      cluster('east', { services: [...chain, alias('a/x', 'y.a.svc.cluster.west')] }),
      cluster('west', {
        services: [alias('a/y', 'x.a.svc.cluster.east'), alias('a/z', 'n9.a.svc.cluster.east')]
      })
    )
    const chained = createNames({ view })
    assert.equal(answered(chained, 'n2.a.svc.cluster.east A').answers.length, 11)
    assert.equal(answered(chained, 'n2.a.svc.cluster.east A').externalTarget, 'end.example.com')
    assert.equal(answered(chained, 'n1.a.svc.cluster.east A').answers.length, 0)
    assert.equal(answered(chained, 'n1.a.svc.cluster.east A').authority.length, 1)
    assert.equal(answered(chained, 'z.a.svc.cluster.west A').externalTarget, 'end.example.com')
    assert.ok(answered(chained, 'x.a.svc.cluster.east A').answers.length <= 11)
  })

  it('names an endpoint without a host name so that its label does not end in a hyphen', () => {
    const pods = slice([endpoint('fd00:1::')])
    const view = meshOf(
      cluster('east', {
        podPrefixes: ['fd00:1::/32'],
        services: [service('a/db', [], { headless: true }, pods)]
      })
    )
    const reply = answered(createNames({ view }), 'fd00-1--0.db.a.svc.cluster.east AAAA')
    assert.equal(reply.answers.length, 1)
  })

  it('gives the addresses of the name server as glue', () => {
    const served = createNames({ view: shopMesh(), serverAddresses: [endpoint('10.1.0.2').addresses[0]!] })
    const reply = answered(served, 'cluster.all NS')
    assert.deepEqual(reply.answers.map(format), ['cluster.all 5 NS ns.dns.cluster.all'])
    assert.deepEqual(reply.additionals.map(format), ['ns.dns.cluster.all 5 A 10.1.0.2'])
    assert.deepEqual(answered(served, 'ns.dns.cluster.all A').answers.map(format), [
      'ns.dns.cluster.all 5 A 10.1.0.2'
    ])
  })
})

describe('names: withdrawn clusters', () => {
  const dead = createNames({ view: shopMesh(), withdrawn: (name) => name === 'west' })

  it('leaves a withdrawn cluster out of cluster.all', () => {
    assert.deepEqual(answered(dead, 'web.shop.svc.cluster.all A').answers.map(format), [
      'web.shop.svc.cluster.all 5 A 10.2.0.1'
    ])
  })

  it('keeps its own zone and reverse names', () => {
    assert.equal(answered(dead, 'web.shop.svc.cluster.west A').answers.length, 1)
    assert.equal(answered(dead, '1.0.12.10.in-addr.arpa PTR').answers.length, 1)
  })
})

describe('names: before the first sync', () => {
  const whole = cluster('east', { services: [service('shop/web', ['10.2.0.1'])] })
  const part = cluster('west', { services: [service('shop/web', ['10.12.0.1'])], complete: false })
  const one = createNames({ view: meshOf(whole, part) })
  const none = createNames({ view: meshOf(part) })
  const nothing = createNames({ view: meshOf() })

  it('answers SERVFAIL for an incomplete cluster, whatever it already has', () => {
    for (const ask of [
      'web.shop.svc.cluster.west A',
      'nosuch.shop.svc.cluster.west A',
      'svc.cluster.west A'
    ]) {
      assert.equal(answered(one, ask).rcode, 'SERVFAIL')
    }
    assert.equal(answered(one, '1.0.12.10.in-addr.arpa PTR').rcode, 'SERVFAIL')
  })

  it('still answers for the apex and the version', () => {
    assert.equal(answered(one, 'cluster.west SOA').answers.length, 1)
    assert.equal(answered(one, 'dns-version.cluster.west TXT').answers.length, 1)
  })

  it('cluster.all answers what is there, and SERVFAIL for what may yet come', () => {
    assert.deepEqual(answered(one, 'web.shop.svc.cluster.all A').answers.map(format), [
      'web.shop.svc.cluster.all 5 A 10.2.0.1'
    ])
    assert.equal(answered(one, 'web.shop.svc.cluster.all AAAA').rcode, 'NOERROR')
    assert.equal(answered(one, 'nosuch.shop.svc.cluster.all A').rcode, 'SERVFAIL')
  })

  it('cluster.all is SERVFAIL while no cluster is complete', () => {
    assert.equal(answered(none, 'web.shop.svc.cluster.all A').rcode, 'SERVFAIL')
    assert.equal(answered(nothing, 'web.shop.svc.cluster.all A').rcode, 'SERVFAIL')
    assert.equal(answered(nothing, 'web.shop.svc.cluster.nowhere A').rcode, 'SERVFAIL')
  })

  it('an incomplete cluster that is withdrawn does not spoil cluster.all', () => {
    const without = createNames({ view: meshOf(whole, part), withdrawn: (name) => name === 'west' })
    assert.equal(answered(without, 'nosuch.shop.svc.cluster.all A').rcode, 'NXDOMAIN')
  })

  it('lists its zones with their state', () => {
    assert.deepEqual(one.zones(), [
      { zone: 'cluster.east', state: 'serving', names: 1 },
      { zone: 'cluster.west', state: 'not synced', names: 0 },
      { zone: 'cluster.all', state: 'serving', names: 1 },
      { zone: 'clusterset.local', state: 'serving', names: 0 }
    ])
  })
})

describe('names: from view to view', () => {
  it('reverse names follow every change, in whichever order views are asked', () => {
    const serviceIds = fc.uniqueArray(fc.integer({ min: 1, max: 12 }), { maxLength: 12 })
    const viewOf = (ids: readonly number[]) =>
      meshOf(
        cluster('east', {
          services: ids.map((id) =>
            service(
              `shop/s${id}`,
              [],
              { headless: true },
              slice([endpoint(`10.1.0.${(id % 5) + 1}`, `h${id}`)])
            )
          )
        })
      )
    fc.assert(
      fc.property(
        fc.array(serviceIds, { minLength: 1, maxLength: 6 }),
        fc.infiniteStream(fc.nat()),
        (steps, order) => {
          const chain: ReturnType<typeof createNames>[] = []
          for (const step of steps) chain.push(createNames({ view: viewOf(step), previous: chain.at(-1) }))
          for (let i = 0; i < 2 * chain.length; i++) {
            const at = (order.next().value ?? 0) % chain.length
            const fresh = createNames({ view: viewOf(steps[at] ?? []) })
            for (let host = 1; host <= 5; host++) {
              const question = { name: `${host}.0.1.10.in-addr.arpa`, type: 'PTR' }
              assert.deepEqual(chain[at]?.answer(question), fresh.answer(question))
            }
          }
        }
      ),
      { numRuns: 50 }
    )
  })

  it('reverse names are found among thousands whose addresses come and go', () => {
    const services = new Map<string, ReturnType<typeof service>>()
    const serviceOf = (id: number, round: number) => {
      const moves = Math.floor((round + (id % 4)) / 4) // a quarter of them in each round; the others are the same objects
      const addressOf = (pod: number) =>
        `10.1.${(id % 200) + (moves % 2)}.${20 * pod + ((moves * 7 + id) % 19)}`
      const known = services.get(`${id} ${moves}`)
      const made =
        known ??
        service(
          `shop/s${id}`,
          [],
          { headless: true },
          slice(Array.from({ length: 10 }, (_, pod) => endpoint(addressOf(pod), `h${pod}`)))
        )
      services.set(`${id} ${moves}`, made)
      return made
    }
    const viewOf = (round: number) =>
      meshOf(cluster('east', { services: Array.from({ length: 400 }, (_, id) => serviceOf(id, round)) }))
    let names: Names | undefined
    let found = 0
    for (let round = 0; round < 10; round++) {
      const view = viewOf(round)
      names = createNames({ view, previous: names })
      const fresh = createNames({ view })
      for (let third = 0; third < 202; third += 17) {
        for (let last = 0; last < 200; last++) {
          const question = { name: `${last}.${third}.1.10.in-addr.arpa`, type: 'PTR' }
          const answer: ReturnType<Names['answer']> = names.answer(question)
          assert.deepEqual(answer, fresh.answer(question))
          if (answer.kind === 'answer' && answer.answers.length > 0) found++
        }
      }
    }
    assert.ok(found > 100, `${found}`)
  })

  it('never throws, and never answers for a name outside its zones', () => {
    const label = fc.oneof(
      fc.constantFrom(
        'web',
        'shop',
        'svc',
        'cluster',
        'east',
        'all',
        '_http',
        '_tcp',
        'db',
        'db-0',
        'arpa',
        'in-addr',
        '10',
        ''
      ),
      fc.string({ maxLength: 8 })
    )
    const type = fc.constantFrom('A', 'AAAA', 'SRV', 'PTR', 'TXT', 'SOA', 'NS', 'ANY', 'CNAME', 'TYPE65')
    fc.assert(
      fc.property(fc.array(label, { maxLength: 9 }), type, (labels, type) => {
        const name = labels.join('.')
        const reply = names.answer({ name, type })
        if (reply.kind === 'forward') return
        assert.match(name.toLowerCase(), /(^|\.)cluster\.[^.]+\.?$|\.arpa\.?$/)
      }),
      { numRuns: 2000 }
    )
  })
})

function answered(of: ReturnType<typeof createNames>, ask: string): Answer {
  const [name = '', type = ''] = ask.split(' ')
  const reply = of.answer({ name, type })
  assert.equal(reply.kind, 'answer', `${ask} was forwarded`)
  assert.ok(reply.kind === 'answer')
  return reply
}

function format(record: DnsRecord): string {
  const data = typeof record.data === 'object' ? Object.values(record.data).join(' ') : record.data
  return `${record.name} ${record.ttl} ${record.type} ${data}`
}

describe('a service that a policy balances', () => {
  const balanced = new Map([['shop/web', '240.240.0.9' as Ip]])
  const merged = createNames({ view: shopMesh(), balanced })
  const addresses = (name: string, of = merged) => {
    const reply = of.answer({ name, type: 'A' })
    return reply.kind === 'answer' ? reply.answers.map(({ data }) => data) : []
  }

  it('has one address in cluster.all, and its own in the zone of each cluster', () => {
    assert.deepEqual(addresses('web.shop.svc.cluster.all'), ['240.240.0.9'])
    assert.deepEqual(addresses('web.shop.svc.cluster.east'), ['10.2.0.1'])
    assert.deepEqual(addresses('web.shop.svc.cluster.west'), ['10.12.0.1'])
    assert.deepEqual(addresses('web.shop.svc.cluster.all', names), ['10.2.0.1', '10.12.0.1'])
  })

  it('has SRV records that point to its name in cluster.all, and the endpoint names of its clusters', () => {
    for (const name of ['web.shop.svc.cluster.all', '_http._tcp.web.shop.svc.cluster.all']) {
      const reply = merged.answer({ name, type: 'SRV' })
      assert.ok(reply.kind === 'answer')
      assert.deepEqual(
        reply.answers.map(({ data }) => data),
        [{ priority: 0, weight: 100, port: 80, target: 'web.shop.svc.cluster.all' }]
      )
      assert.deepEqual(
        reply.additionals.map(({ name: target, data }) => [target, data]),
        [['web.shop.svc.cluster.all', '240.240.0.9']]
      )
    }
    assert.deepEqual(addresses('10-1-0-1.web.shop.svc.cluster.all'), ['10.1.0.1'])
  })

  it('has no name when no cluster that is reached has it', () => {
    const gone = createNames({ view: meshOf(cluster('east', {})), balanced })
    const reply = gone.answer({ name: 'web.shop.svc.cluster.all', type: 'A' })
    assert.ok(reply.kind === 'answer')
    assert.equal(reply.rcode, 'NXDOMAIN')
  })
})
