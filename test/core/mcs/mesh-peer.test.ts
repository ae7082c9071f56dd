import assert from 'node:assert/strict'
import * as fc from 'fast-check'
import { fieldsAt } from '../../../src/core/kube/kube-api.ts'
import { isFields, type Fields } from '../../../src/core/model/field-check.ts'
import {
  applyPeer,
  applyPeerStatus,
  GAP_MS,
  isWriteDue,
  peerConditions,
  readPeer,
  REFRESH_MS,
  type HeldPeer,
  type PeerFacts
} from '../../../src/core/mcs/mesh-peer.ts'
import type { Cidr, ClusterName } from '../../../src/core/model/values.ts'

const UP: PeerFacts = {
  cluster: 'east' as ClusterName,
  podPrefixes: ['10.2.0.0/16' as Cidr],
  servicePrefixes: ['10.102.0.0/16' as Cidr],
  gateways: 2,
  connected: 1,
  isConnecting: false,
  isComplete: true,
  hasConflict: false,
  path: 'direct',
  rttMs: 1.234_567,
  services: 7
}

const NOW = '2026-11-28T12:00:00Z'

/** What the API server holds after the status of these facts was written. */
function written(facts: PeerFacts, held: HeldPeer | undefined, now = NOW): HeldPeer {
  return readPeer(applyPeerStatus(facts, { held, now, node: 'node-1' }).body as Fields)
}

describe('the conditions of a MeshPeer', () => {
  const cases: readonly (readonly [string, Partial<PeerFacts>, string])[] = [
    [
      'a tunnel is up and all services are known',
      {},
      'Ready=True/Ready Connected=True/TunnelUp Synced=True/CatalogueComplete'
    ],
    [
      'no tunnel answers',
      { connected: 0 },
      'Ready=False/TunnelDown Connected=False/TunnelDown Synced=True/CatalogueComplete'
    ],
    [
      'the first handshake is under way',
      { connected: 0, isConnecting: true },
      'Ready=False/Connecting Connected=False/Connecting Synced=True/CatalogueComplete'
    ],
    [
      'it has no gateway',
      { connected: 0, gateways: 0 },
      'Ready=False/NoGateway Connected=False/NoGateway Synced=True/CatalogueComplete'
    ],
    [
      'this agent has no data plane',
      { connected: undefined },
      'Ready=Unknown/NoDataPlane Connected=Unknown/NoDataPlane Synced=True/CatalogueComplete'
    ],
    [
      'its services are not all known',
      { isComplete: false },
      'Ready=False/CatalogueIncomplete Connected=True/TunnelUp Synced=False/CatalogueIncomplete'
    ],
    [
      'another cluster has a prefix of it',
      { hasConflict: true },
      'Ready=False/Conflict Connected=True/TunnelUp Synced=True/CatalogueComplete'
    ]
  ]
  for (const [title, facts, wanted] of cases)
    it(`say that ${title}`, () => {
      const list = peerConditions({ ...UP, ...facts })
      assert.equal(list.map(({ type, status, reason }) => `${type}=${status}/${reason}`).join(' '), wanted)
      for (const { message } of list) assert.match(message, /^[a-z].*[^.]$/)
    })
})

describe('the status of a MeshPeer', () => {
  it('has what the agent knows, without a path and a round trip that are not known', () => {
    const { path, body } = applyPeerStatus(
      { ...UP, path: '', rttMs: undefined },
      { held: undefined, now: NOW, node: 'n' }
    )
    assert.equal(path, '/apis/rhizome.io/v1alpha1/meshpeers/east/status')
    const { conditions: _conditions, ...rest } = fieldsAt(body as Fields, 'status')
    assert.deepEqual(rest, {
      gateways: 2,
      connectedGateways: 1,
      podCIDRs: ['10.2.0.0/16'],
      serviceCIDRs: ['10.102.0.0/16'],
      services: 7,
      observedBy: 'n',
      lastUpdateTime: NOW
    })
    assert.deepEqual(applyPeer(UP).body, {
      apiVersion: 'rhizome.io/v1alpha1',
      kind: 'MeshPeer',
      metadata: { name: 'east' }
    })
  })

  it('keeps the time of a condition while its status is the same', () => {
    const first = written(UP, undefined)
    const later = written({ ...UP, connected: 0 }, first, '2026-11-28T13:00:00Z')
    const times = later.conditions.map(
      ({ type, lastTransitionTime }) => `${String(type)} ${String(lastTransitionTime)}`
    )
    assert.deepEqual(times, ['Ready 2026-11-28T13:00:00Z', 'Connected 2026-11-28T13:00:00Z', `Synced ${NOW}`])
  })

  it('is not written for what changes all the time, but for each firm change', () => {
    const held = written(UP, undefined)
    const due = (facts: Partial<PeerFacts>, sinceMs = GAP_MS) =>
      isWriteDue({ ...UP, ...facts }, held, sinceMs)
    for (const facts of [{}, { rttMs: 900 }, { path: 'tcp' }, { services: 8 }, { isConnecting: true }])
      assert.deepEqual([due(facts), due(facts, REFRESH_MS)], [false, true], JSON.stringify(facts))
    for (const facts of [
      { connected: 2 },
      { connected: 0 },
      { gateways: 3 },
      { isComplete: false },
      { podPrefixes: [] }
    ])
      assert.deepEqual([due(facts), due(facts, GAP_MS - 1)], [true, false], JSON.stringify(facts))
    assert.ok(isWriteDue(UP, undefined, 0))
  })

  it('is written at most once in GAP_MS while a tunnel flaps, and says the last state within that time', () => {
    const states = fc.array(
      fc.record({ connected: fc.nat(2), rttMs: fc.nat(500), isComplete: fc.boolean() }),
      {
        minLength: 1,
        maxLength: 200
      }
    )
    fc.assert(
      fc.property(states, (seconds) => {
        let held: HeldPeer | undefined
        let atMs = -Infinity
        const writes: number[] = []
        const look = (facts: PeerFacts, nowMs: number): void => {
          if (!isWriteDue(facts, held, nowMs - atMs)) return
          held = written(facts, held)
          atMs = nowMs
          writes.push(nowMs)
        }
        seconds.forEach((facts, second) => look({ ...UP, ...facts }, second * 1000))
        const last = { ...UP, ...seconds.at(-1) }
        for (let second = seconds.length; second < seconds.length + GAP_MS / 1000; second++)
          look(last, second * 1000)
        assert.ok(writes.every((ms, n) => n === 0 || ms - (writes[n - 1] ?? 0) >= GAP_MS))
        assert.equal(held?.firm, written(last, undefined).firm)
      })
    )
  })

  it('of any object is read without an error', () => {
    fc.assert(
      fc.property(
        fc.anything(),
        (value) => void (isFields(value) && readPeer({ status: value, metadata: value }))
      )
    )
  })
})
