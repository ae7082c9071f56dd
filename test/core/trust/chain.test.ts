import assert from 'node:assert/strict'
import fc from 'fast-check'
import type { Cidr } from '../../../src/core/model/values.ts'
import { originOf } from '../../../src/core/model/identity.ts'
import { checkPrefixes, sealCertificate, type CertificateDraft } from '../../../src/core/trust/certificate.ts'
import { checkTime, verifyChain, type ChainRefusalCode } from '../../../src/core/trust/chain.ts'
import { decodeCertificateBody, decodeChain, encodeMessage, wire } from '../../../src/core/wire/messages.ts'
import {
  agentOf,
  cidr,
  clusterName,
  crypto,
  DAY,
  EAST,
  flipBit,
  HOUR,
  invite,
  join,
  makeMesh,
  NOW
} from './fixtures.ts'

const mesh = makeMesh()
const east = join(mesh, EAST)
const agent = agentOf(east)
const options = { crypto, meshId: mesh.meshId, upTo: 'AGENT' } as const

describe('verifyChain', () => {
  it('accepts root → invite → cluster → agent and says what it authorises', () => {
    const chain = verifyChain(agent.chain.bytes, options)
    assert.ok(chain.kind === 'AGENT')
    assert.equal(chain.cluster, 'east')
    assert.equal(chain.agentOrigin, originOf(crypto.publicKeyOf(agent.seed)))
    assert.deepEqual(chain.podPrefixes, ['10.2.0.0/16'])
    assert.deepEqual(chain.servicePrefixes, ['10.102.0.0/16'])
    assert.deepEqual(chain.invite?.validity, { notBefore: NOW, notAfter: NOW + DAY })
    assert.equal(chain.node, 'gw-1')
    assert.deepEqual(chain.roles, ['gateway', 'node'])
  })

  it('accepts the founding cluster, which has no invite', () => {
    const chain = verifyChain(agentOf(mesh.founder).chain.bytes, options)
    assert.ok(chain.kind === 'AGENT' && chain.invite === undefined && chain.order.invite === undefined)
  })

  it('accepts a chain that ends where it was asked to, and no other', () => {
    const invited = invite(mesh, EAST).chain.bytes
    assert.equal(verifyChain(invited, { ...options, upTo: 'INVITE' }).kind, 'INVITE')
    refused(verifyChain(invited, options), 'links')
    refused(verifyChain(agent.chain.bytes, { ...options, upTo: 'INVITE' }), 'links')
    refused(verifyChain(east.chain.bytes, options), 'links')
  })

  const other = makeMesh()
  const mallory = { ...join(mesh, { cluster: 'mallory', pods: ['10.66.0.0/16'] }) }
  const seal = (
    draft: CertificateDraft,
    seeds: { issuerSeed: Uint8Array; subjectSeed: Uint8Array },
    meshId = mesh.meshId
  ) => sealCertificate({ crypto, meshId, draft, ...seeds })
  const validity = { notBefore: NOW, notAfter: NOW + DAY }
  const agentDraft = {
    kind: 'agent',
    cluster: clusterName('east'),
    node: 'n',
    roles: ['gateway'],
    validity
  } as const
  const [seedA, seedB] = [crypto.random(32), crypto.random(32)]
  const eastInvite = invite(mesh, EAST)
  const clusterDraft = (
    pods: readonly string[],
    services: readonly string[] = [],
    over: object = {}
  ): CertificateDraft => ({
    kind: 'cluster',
    cluster: clusterName('east'),
    podPrefixes: pods.map(cidr),
    servicePrefixes: services.map(cidr),
    validity,
    ...over
  })
  /** A chain of east's invite with a cluster certificate of the test's choice. */
  const withCluster = (draft: CertificateDraft, issuerSeed = eastInvite.inviteSeed) =>
    rebuild(eastInvite.chain.bytes, (certificates) => [
      ...certificates,
      seal(draft, { issuerSeed, subjectSeed: seedA }),
      seal(agentDraft, { issuerSeed: seedA, subjectSeed: seedB })
    ])

  const table: readonly (readonly [string, ChainRefusalCode, () => Uint8Array])[] = [
    ['nothing', 'malformed', () => new Uint8Array(0)],
    ['more than its bound', 'malformed', () => new Uint8Array(9000)],
    ['an unknown field at the end', 'malformed', () => Uint8Array.from([...agent.chain.bytes, 0x78, 0x01])],
    ['another mesh', 'mesh', () => agentOf(other.founder).chain.bytes],
    [
      'a link of another mesh',
      'mesh',
      () =>
        rebuild(east.chain.bytes, (certificates) => [
          ...certificates,
          seal(agentDraft, { issuerSeed: east.clusterSeed, subjectSeed: seedA }, other.meshId)
        ])
    ],
    ['root keys alone', 'links', () => rebuild(agent.chain.bytes, () => [])],
    ['a missing link', 'links', () => rebuild(agent.chain.bytes, ([first, , third]) => [first, third])],
    ['links in the wrong order', 'links', () => rebuild(agent.chain.bytes, ([a, b, c]) => [b, a, c])],
    ['too many links', 'links', () => rebuild(agent.chain.bytes, (list) => [...list, ...list])],
    [
      'an agent certified by another cluster',
      'issuer',
      () =>
        rebuild(east.chain.bytes, (certificates) => [
          ...certificates,
          seal(agentDraft, { issuerSeed: mallory.clusterSeed, subjectSeed: seedA })
        ])
    ],
    [
      'a cluster that no root and no invite signed',
      'issuer',
      () => rebuild(agent.chain.bytes, ([, cluster, last]) => [cluster, last])
    ],
    [
      'a cluster of another name than its invite',
      'cluster',
      () => withCluster(clusterDraft(['10.2.0.0/16'], [], { cluster: clusterName('west') }))
    ],
    ['a pod prefix beyond the invite', 'prefixes', () => withCluster(clusterDraft(['10.2.0.0/15']))],
    ['a pod prefix of the invite’s services', 'prefixes', () => withCluster(clusterDraft(['10.102.0.0/16']))],
    [
      'a service prefix beyond the invite',
      'prefixes',
      () => withCluster(clusterDraft([], ['10.103.0.0/16']))
    ],
    [
      'a cluster dated before its invite',
      'validity',
      () =>
        withCluster(
          clusterDraft(['10.2.0.0/16'], [], { validity: { notBefore: NOW - DAY, notAfter: NOW + DAY } })
        )
    ],
    [
      'a cluster dated after its invite',
      'validity',
      () =>
        withCluster(
          clusterDraft(['10.2.0.0/16'], [], {
            validity: { notBefore: NOW + 2 * DAY, notAfter: NOW + 3 * DAY }
          })
        )
    ],
    [
      'a signature by another key',
      'signature',
      () =>
        rebuild(agent.chain.bytes, (list) =>
          list.map((one, index) => (index === 2 ? { ...one, signature: crypto.random(64) } : one))
        )
    ],
    [
      'an agent that did not accept',
      'signature',
      () =>
        rebuild(agent.chain.bytes, (list) =>
          list.map((one, index) => (index === 2 ? { ...one, acceptance: new Uint8Array(0) } : one))
        )
    ],
    ['an acceptance by another key', 'signature', () => captured()],
    ['an ADMIN link', 'malformed', () => rebuildBody(agent.chain.bytes, 0, { kind: 1 })],
    ['a kind of the future', 'malformed', () => rebuildBody(agent.chain.bytes, 0, { kind: 9 })],
    ['an unknown role', 'malformed', () => rebuildBody(agent.chain.bytes, 2, { roles: ['root'] })],
    [
      'an agent with prefixes',
      'malformed',
      () =>
        rebuildBody(agent.chain.bytes, 2, {
          podPrefixes: [{ address: Uint8Array.of(10, 0, 0, 0), length: 8 }]
        })
    ],
    [
      'a node name that is no name',
      'malformed',
      () => rebuildBody(agent.chain.bytes, 2, { node: 'a;reboot' })
    ],
    ['a reserved cluster name', 'malformed', () => rebuildBody(agent.chain.bytes, 0, { cluster: 'all' })],
    [
      'host bits in a prefix',
      'malformed',
      () =>
        rebuildBody(agent.chain.bytes, 0, {
          podPrefixes: [{ address: Uint8Array.of(10, 0, 0, 1), length: 8 }]
        })
    ],
    [
      'overlapping pod and service prefixes',
      'malformed',
      () =>
        rebuildBody(agent.chain.bytes, 0, {
          podPrefixes: [{ address: Uint8Array.of(10, 102, 0, 0), length: 16 }]
        })
    ],
    [
      'a validity that ends before it starts',
      'malformed',
      () => rebuildBody(agent.chain.bytes, 2, { notAfter: 1 })
    ],
    ['a short serial', 'malformed', () => rebuildBody(agent.chain.bytes, 2, { serial: new Uint8Array(4) })]
  ]
  for (const [what, code, bytes] of table) {
    it(`refuses ${what} (${code})`, () => refused(verifyChain(bytes(), options), code))
  }

  /** Mallory certifies east's agent as its own, without that agent's key. */
  function captured(): Uint8Array {
    const draft = { ...agentDraft, cluster: clusterName('mallory') }
    return rebuild(mallory.chain.bytes, (certificates) => {
      const own = seal(draft, { issuerSeed: mallory.clusterSeed, subjectSeed: seedA })
      const body = rewrite(own.body, { subjectKey: crypto.publicKeyOf(agent.seed) })
      const domain = new TextEncoder().encode('rhizome/certificate/1\0')
      return [
        ...certificates,
        { body, signature: crypto.sign(mallory.clusterSeed, domain, body), acceptance: own.acceptance }
      ]
    })
  }

  it('refuses a chain with any single bit flipped', () => {
    const { bytes } = agent.chain
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      assert.equal(verifyChain(flipBit(bytes, bit), options).kind, 'refused', `bit ${bit}`)
    }
  })

  it('refuses every prefix of a chain', () => {
    for (let length = 0; length < agent.chain.bytes.length; length++) {
      assert.equal(
        verifyChain(agent.chain.bytes.subarray(0, length), options).kind,
        'refused',
        `${length} bytes`
      )
    }
  })

  it('never throws and never accepts random bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 600 }), fc.nat(), (noise, at) => {
        assert.equal(verifyChain(noise, options).kind, 'refused')
        if (noise.length === 0) return
        const spliced = agent.chain.bytes.slice()
        spliced.set(noise.subarray(0, 40), at % (spliced.length - 40))
        if (spliced.every((byte, index) => byte === agent.chain.bytes[index])) return
        assert.equal(verifyChain(spliced, options).kind, 'refused')
      }),
      { numRuns: 500 }
    )
  })
})

describe('checkTime', () => {
  const chain = agent.chain
  const day8 = NOW + 8 * DAY

  it('accepts within the validity, give or take five minutes', () => {
    for (const now of [NOW - 300, NOW, NOW + 300]) {
      assert.equal(checkTime(chain, now, { knownCluster: false }).kind, 'valid')
    }
    const end = NOW + 7 * DAY
    assert.equal(checkTime(chain, end + 300, { knownCluster: true }).kind, 'valid')
    assert.equal(checkTime(chain, end + 301, { knownCluster: true }).kind, 'refused')
  })

  it('says when the agent certificate expired and what the clock says', () => {
    const verdict = checkTime(chain, day8, { knownCluster: true })
    assert.ok(verdict.kind === 'refused' && verdict.code === 'expired')
    assert.equal(
      verdict.reason,
      'the certificate of agent gw-1 expired 24 hours ago, at 2026-11-30T00:00:00Z; this clock says 2026-12-01T00:00:00Z'
    )
  })

  it('says how far ahead a certificate is that is not yet valid', () => {
    const verdict = checkTime(chain, NOW - 365 * DAY, { knownCluster: true })
    assert.ok(verdict.kind === 'refused' && verdict.code === 'notYetValid')
    assert.match(verdict.reason, /becomes valid in 365 days, at 2026-11-23/)
  })

  it('lets a known cluster stay when its invite is over, and no stranger in', () => {
    const late = NOW + 2 * DAY
    assert.equal(checkTime(chain, late, { knownCluster: true }).kind, 'valid')
    const stranger = checkTime(chain, late, { knownCluster: false })
    assert.ok(stranger.kind === 'refused' && stranger.code === 'expired')
    assert.match(stranger.reason, /the invite of east expired 24 hours ago/)
  })

  it('judges an invite by itself', () => {
    const { chain: invited } = invite(mesh, { ...EAST, notAfter: NOW + HOUR })
    assert.equal(checkTime(invited, NOW, { knownCluster: false }).kind, 'valid')
    assert.equal(checkTime(invited, NOW + 2 * HOUR, { knownCluster: false }).kind, 'refused')
  })
})

describe('checkPrefixes', () => {
  const table: readonly (readonly [readonly string[], readonly string[], RegExp | undefined])[] = [
    [['10.0.0.0/8'], ['172.16.0.0/12'], undefined],
    [['fd00:1::/48'], ['fd00:2::/112'], undefined],
    [['10.0.0.0/8'], ['10.96.0.0/12'], /service prefix 10\.96\.0\.0\/12 overlaps pod prefix 10\.0\.0\.0\/8/],
    [['10.1.0.0/16', '10.1.2.0/24'], [], /must be disjoint/],
    [['0.0.0.0/0'], [], /never routed/],
    [['127.0.0.0/8'], [], /never routed/],
    [[], ['224.0.0.0/4'], /never routed/],
    [['224.0.0.0/3'], [], /never routed/],
    [['239.255.0.0/16'], [], /never routed/],
    [['240.0.0.0/4'], [], undefined],
    [['255.255.255.255/32'], [], /never routed/],
    [['240.10.0.0/16'], ['250.0.0.0/16'], undefined],
    [['::/0'], [], /never routed/],
    [['fe80::/64'], [], /never routed/]
  ]
  for (const [pods, services, fault] of table) {
    it(`${fault === undefined ? 'takes' : 'refuses'} ${[...pods, ...services].join(' and ')}`, () => {
      const text = checkPrefixes({ podPrefixes: pods.map(cidr), servicePrefixes: services.map(cidr) })
      if (fault === undefined) assert.equal(text, undefined)
      else assert.match(text ?? '', fault)
    })
  }

  it('refuses more prefixes than a certificate holds', () => {
    const podPrefixes = Array.from({ length: 33 }, (_, index): Cidr => cidr(`10.${index}.0.0/16`))
    assert.match(checkPrefixes({ podPrefixes, servicePrefixes: [] }) ?? '', /more than 32/)
  })
})

function refused(
  result: { readonly kind: string; readonly code?: string; readonly reason?: string },
  code: ChainRefusalCode
): void {
  assert.equal(result.kind, 'refused')
  assert.equal(result.code, code, result.reason)
  assert.ok((result.reason ?? '').length > 10)
}

type Link = { readonly body: Uint8Array; readonly signature: Uint8Array; readonly acceptance: Uint8Array }

function rebuild(
  bytes: Uint8Array,
  change: (links: readonly Link[]) => readonly (Link | undefined)[]
): Uint8Array {
  const chain = decodeChain(bytes)
  assert.ok(chain)
  const certificates = change(chain.certificates).filter((link) => link !== undefined)
  return encodeMessage<object>(wire.Chain, { rootKeys: chain.rootKeys, certificates })
}

function rebuildBody(bytes: Uint8Array, at: number, fields: object): Uint8Array {
  return rebuild(bytes, (links) =>
    links.map((link, index) => (index === at ? { ...link, body: rewrite(link.body, fields) } : link))
  )
}

function rewrite(body: Uint8Array, fields: object): Uint8Array {
  return encodeMessage<object>(wire.CertificateBody, { ...decodeCertificateBody(body), ...fields })
}
