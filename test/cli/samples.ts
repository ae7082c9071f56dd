// Typed answers of a believable mesh: west (this agent), east, edge.
import type {
  DnsAnswer,
  EventsAnswer,
  HealthReport,
  PeersAnswer,
  PlanAnswer,
  RoutesAnswer,
  ServicesAnswer,
  StatusAnswer
} from '../../src/api/answers.ts'
import type { DoctorAnswer, PingAnswer, WhyAnswer } from '../../src/api/diagnosis-answers.ts'
import type { GatewayInviteAnswer, InviteAnswer, JoinedAnswer } from '../../src/api/membership-answers.ts'
import type { Cidr, Ip, PeerAddress, WireguardKey } from '../../src/core/model/values.ts'

type Body<T> = Omit<T, 'apiVersion'>

const WELL: HealthReport = { state: 'ok', faults: [], more: {} }

export const ILL: HealthReport = {
  state: 'critical',
  faults: [
    {
      code: 'TUNNELS_DOWN',
      severity: 'critical',
      subject: '',
      message: 'no tunnel to any other cluster answers',
      fix: 'open UDP port 51820 between the gateways',
      since: new Date(Date.now() - 245_000).toISOString()
    },
    {
      code: 'CLOCK',
      severity: 'warning',
      subject: '',
      message: 'the clock is 400 days off',
      fix: 'timedatectl set-ntp true',
      since: new Date(Date.now() - 10_500).toISOString()
    }
  ],
  more: { TUNNEL_DOWN: 480 }
}

const ago = (seconds: number): string => new Date(Date.now() - seconds * 1000).toISOString()

export const STATUS: Body<StatusAnswer> = {
  health: WELL,
  state: 'running',
  version: '0.1.0',
  cluster: 'west',
  meshId: 'bafyreimesh',
  peerId: '12D3KooWwest',
  wireguardKey: 'd2VzdHdlc3R3ZXN0d2VzdHdlc3R3ZXN0d2VzdHdlc3Q=',
  dataplane: { state: 'on', loadBalancer: 'nftables', device: 'rhizome0' },
  dns: { state: 'on', address: '10.1.0.1:53' },
  source: { kind: 'folder', path: '/etc/rhizome/manifests', services: 8, endpointSlices: 9, problems: [] },
  podCidrs: ['10.1.0.0/16'],
  serviceCidrs: ['10.101.0.0/16'],
  clusters: 3,
  connections: 2,
  refused: {},
  warnings: [],
  lastPass: { at: ago(3.5 * 86_400), ops: 4, ms: 12 },
  uptimeSeconds: 11_520
}

export const UNJOINED: Body<StatusAnswer> = {
  health: WELL,
  state: 'unjoined',
  version: '0.1.0',
  dataplane: { state: 'off', reason: 'not joined' },
  dns: { state: 'off', reason: 'not joined' },
  source: { kind: 'folder', path: '/etc/rhizome/manifests', services: 1, endpointSlices: 0, problems: [] },
  podCidrs: [],
  serviceCidrs: [],
  clusters: 0,
  connections: 0,
  refused: {},
  warnings: [],
  uptimeSeconds: 42
}

const PEER = {
  peerId: '12D3KooWwest',
  node: 'gw-west',
  path: 'direct',
  rxBytes: 0,
  txBytes: 0,
  services: 8,
  lag: 0,
  connected: true,
  version: '0.1.0'
} as const

export const PEERS: Body<PeersAnswer> = {
  health: WELL,
  peers: [
    {
      ...PEER,
      cluster: 'east',
      peerId: '12D3KooWeast',
      node: 'gw-east',
      state: 'up',
      endpoint: '203.0.113.7:51820',
      rttMs: 0.42,
      handshakeAgeSeconds: 12,
      rxBytes: 1_258_291,
      txBytes: 348_160,
      cidrs: ['10.2.0.0/16', '10.102.0.0/16']
    },
    { ...PEER, cluster: 'west', state: 'self', path: '', cidrs: ['10.1.0.0/16', '10.101.0.0/16'] }
  ]
}

export const PEERS_IN_TROUBLE: Body<PeersAnswer> = {
  health: WELL,
  peers: [
    ...PEERS.peers,
    {
      ...PEER,
      cluster: 'edge',
      peerId: '12D3KooWedge',
      node: 'gw-edge',
      state: 'down',
      reason: 'no handshake for 4m',
      path: 'dial-in',
      handshakeAgeSeconds: 252,
      rxBytes: 0,
      txBytes: 148,
      cidrs: ['10.3.0.0/16'],
      services: 0,
      lag: 17,
      connected: false
    }
  ]
}

export const SERVICES: Body<ServicesAnswer> = {
  services: [
    {
      cluster: 'east',
      namespace: 'shop',
      name: 'web',
      type: 'ClusterIP',
      clusterIps: ['10.102.0.10'],
      ports: [
        { name: 'http', port: 80, protocol: 'TCP' },
        { name: 'https', port: 443, protocol: 'TCP' }
      ],
      ready: 2,
      endpoints: 3,
      dnsName: 'web.shop.svc.cluster.east'
    },
    {
      cluster: 'east',
      namespace: 'data',
      name: 'db',
      type: 'Headless',
      clusterIps: [],
      ports: [{ name: 'sql', port: 5432, protocol: 'TCP' }],
      ready: 2,
      endpoints: 2,
      dnsName: 'db.data.svc.cluster.east'
    },
    {
      cluster: 'west',
      namespace: 'shop',
      name: 'mail',
      type: 'ExternalName',
      clusterIps: [],
      ports: [],
      ready: 0,
      endpoints: 0,
      dnsName: 'mail.shop.svc.cluster.west'
    }
  ]
}

export const ROUTES: Body<RoutesAnswer> = {
  routes: [
    { destination: '10.2.0.0/16', kind: 'pod', cluster: 'east', via: 'rhizome0', state: 'installed' },
    {
      destination: '10.3.0.0/16',
      kind: 'pod',
      cluster: 'edge',
      via: '',
      state: 'conflict',
      reason: 'east has an older certificate for 10.3.0.0/16'
    },
    { destination: '10.102.0.0/16', kind: 'service', cluster: 'east', via: 'nftables', state: 'installed' }
  ]
}

export const ZONES: Body<DnsAnswer> = {
  zones: [
    { zone: 'cluster.all', state: 'serving', names: 16 },
    { zone: 'cluster.edge', state: 'not synced', names: 0 }
  ]
}

export const RECORDS: Body<DnsAnswer> = {
  rcode: 'NOERROR',
  records: [{ name: 'web.shop.svc.cluster.east', type: 'A', ttl: 5, data: '10.102.0.10' }]
}

export const IN_STEP: Body<PlanAnswer> = { inStep: true, steps: [] }

const EAST_KEY = 'ZWFzdGVhc3RlYXN0ZWFzdGVhc3RlYXN0ZWFzdGVhc3Q=' as WireguardKey

export const PLAN: Body<PlanAnswer> = {
  inStep: false,
  steps: [
    {
      op: {
        kind: 'setPeer',
        peer: {
          publicKey: EAST_KEY,
          peerAddress: '203.0.113.7:51820' as PeerAddress,
          allowedIps: ['10.2.0.0/16' as Cidr],
          keepaliveSeconds: 25
        }
      },
      commands: [`wg set rhizome0 peer ${EAST_KEY} endpoint 203.0.113.7:51820 allowed-ips 10.2.0.0/16`]
    },
    {
      op: {
        kind: 'setVirtualServer',
        virtualServer: {
          vip: '10.102.0.10' as Ip,
          protocol: 'TCP',
          port: 80,
          scheduler: 'rr',
          affinitySeconds: 0,
          realServers: [{ ip: '10.2.0.4' as Ip, port: 8080, weight: 1 }]
        },
        before: undefined
      },
      commands: ['nft -f - <<EOF\nadd element ip rhizome services { 10.102.0.10 . tcp . 80 : goto one }\nEOF']
    },
    {
      op: { kind: 'removeRoute', route: { destination: '10.9.0.0/16' as Cidr, source: undefined } },
      commands: ['ip route del 10.9.0.0/16 dev rhizome0']
    }
  ]
}

export const INVITE: Body<InviteAnswer> = {
  token: 'rhz1.dG9rZW4',
  cluster: 'east',
  expires: '2026-11-24T04:12:00Z',
  podCidrs: ['10.2.0.0/16'],
  serviceCidrs: ['10.102.0.0/16'],
  bootstrap: ['/ip4/198.51.100.1/tcp/7946/p2p/12D3KooWwest']
}

export const GATEWAY_INVITE: Body<GatewayInviteAnswer> = {
  token: 'rzg2_dG9rZW4',
  cluster: 'edge',
  expires: '2026-11-24T04:12:00Z',
  bootstrap: ['/ip4/198.51.100.3/tcp/7946/p2p/12D3KooWedge']
}

export const JOINED: Body<JoinedAnswer> = {
  cluster: 'east',
  meshId: 'bafyreimesh',
  peerId: '12D3KooWeast',
  podCidrs: ['10.2.0.0/16'],
  serviceCidrs: ['10.102.0.0/16'],
  members: ['east', 'west']
}

export const EVENTS: Body<EventsAnswer> = {
  events: [
    {
      at: ago(190),
      lastAt: ago(150),
      kind: 'refused',
      peerId: '12D3KooWeast',
      cluster: 'east',
      reason: 'bad signature',
      count: 31
    },
    {
      at: ago(150),
      lastAt: ago(150),
      kind: 'banned',
      peerId: '12D3KooWeast',
      cluster: 'east',
      reason: 'too many malformed or badly signed frames, for 10 s',
      count: 1
    },
    {
      at: ago(20),
      lastAt: ago(20),
      kind: 'refused',
      peerId: '12D3KooWstranger',
      reason: 'handshake mesh: the peer is in another mesh',
      count: 1
    }
  ]
}

export const WHY: Body<WhyAnswer> = {
  verdict: 'fails',
  stops: [{ stop: 'name', state: 'ok', text: 'web.shop.svc.cluster.east is 10.102.0.10' }],
  ways: [
    {
      address: '10.102.0.10',
      stops: [
        {
          stop: 'prefix',
          state: 'ok',
          text: '10.102.0.10 is in the service prefix 10.102.0.0/16 of cluster east'
        },
        { stop: 'tunnel', state: 'fault', text: 'the tunnel to east-1 is down', fix: 'open UDP port 51820' }
      ]
    }
  ]
}

export const PING: Body<PingAnswer> = {
  verdict: 'lossy',
  gateways: [
    {
      node: 'east-1',
      peerId: '12D3KooWeast',
      path: 'direct',
      endpoint: '192.0.2.9:51820',
      address: '10.2.0.1',
      tunnel: 'up',
      sent: 4,
      received: 3,
      refused: 0,
      lossPercent: 25,
      rttsMs: [1.25, null, 12.04, 2.5],
      rtt: { min: 1.25, avg: 5.263, max: 12.04, mdev: 4.819 }
    },
    {
      node: 'east-2',
      peerId: '12D3KooWeast2',
      path: 'dial-in',
      address: '10.2.0.2',
      tunnel: 'down',
      reason: 'no answer through the tunnel for 12 s',
      fix: 'let UDP 51820 in',
      sent: 4,
      received: 0,
      refused: 0,
      lossPercent: 100,
      rttsMs: [null, null, null, null]
    }
  ]
}

export const DOCTOR: Body<DoctorAnswer> = {
  verdict: 'fault',
  findings: [
    {
      check: 'tunnel',
      state: 'fault',
      subject: 'east east-1',
      text: 'the tunnel is down',
      fix: 'let UDP 192.0.2.9:51820 in'
    },
    { check: 'disk', state: 'ok', subject: '/var/lib/rhizome', text: '900 MB are free' }
  ]
}
