import assert from 'node:assert/strict'
import * as fc from 'fast-check'
import type { HostOp, VirtualServer } from '../../../src/core/host/host-state.ts'
import {
  EMPTY_HOST,
  normalizeHost,
  normalizeVirtualServer,
  virtualServerKey
} from '../../../src/core/host/normalize.ts'
import { applyOps } from '../../../src/core/host/model-host.ts'
import type { Ip } from '../../../src/core/model/values.ts'
import { plan, sameVirtualServer } from '../../../src/core/host/plan.ts'
import { adopted, differenceOf, editedServers, type ServerEdits } from '../../../src/core/host/server-list.ts'

const RAW: readonly VirtualServer[] = [1, 2, 3, 4, 12, 13].flatMap((host) =>
  [80, 443, 8080].flatMap((port) =>
    [0, 1, 2].map((backends): VirtualServer => ({
      vip: `${host > 10 ? 'fd00::' : '10.101.0.'}${host}` as Ip,
      protocol: port === 443 ? 'UDP' : 'TCP',
      port,
      scheduler: 'rr',
      affinitySeconds: 0,
      realServers: Array.from({ length: backends }, (_, n) => ({
        ip: `10.1.0.${n + 1}` as Ip,
        port: 1,
        weight: 1
      }))
    }))
  )
)
const POOL = RAW.map(normalizeVirtualServer)
/** The same content in other objects, as the kernel is read back. */
const copy = (server: VirtualServer): VirtualServer => structuredClone(server)

const servers = fc.uniqueArray(
  fc
    .tuple(fc.constantFrom(...POOL), fc.boolean())
    .map(([server, isCopy]) => (isCopy ? copy(server) : server)),
  { selector: virtualServerKey, maxLength: 18 }
)
const sorted = servers.map((list) => normalizeHost({ ...EMPTY_HOST, virtualServers: list }).virtualServers)
const byKey = (list: readonly VirtualServer[]) =>
  new Map(list.map((server) => [virtualServerKey(server), server]))

function holds(want: readonly VirtualServer[], have: readonly VirtualServer[]): void {
  const [wanted, there] = [byKey(want), byKey(have)]
  const { pairs, gone } = differenceOf(want, have)
  assert.deepEqual(
    pairs.map((pair) => [pair.index, pair.want, pair.have]),
    want.flatMap((server, index) => {
      const old = there.get(virtualServerKey(server))
      return old === server ? [] : [[index, server, old]]
    })
  )
  assert.deepEqual(new Set(gone), new Set(have.filter((server) => !wanted.has(virtualServerKey(server)))))
}

describe('lists of virtual servers', () => {
  it('differ in what is another object, whatever the order of either list', () => {
    fc.assert(fc.property(sorted, sorted, holds))
    fc.assert(fc.property(servers, servers, holds))
  })

  it('are after an edit what the kernel has, sorted, and share what was not touched', () => {
    fc.assert(
      fc.property(sorted, fc.array(fc.tuple(fc.constantFrom(...POOL), fc.boolean())), (list, steps) => {
        const edits: ServerEdits = new Map()
        const expected = byKey(list)
        for (const [of, isGone] of steps) {
          edits.set(virtualServerKey(of), { of, now: isGone ? undefined : of })
          if (isGone) expected.delete(virtualServerKey(of))
          else expected.set(virtualServerKey(of), of)
        }
        const after = editedServers(list, edits)
        const all = normalizeHost({ ...EMPTY_HOST, virtualServers: [...expected.values()] }).virtualServers
        assert.deepEqual(after, all)
        for (const server of after) if (!edits.has(virtualServerKey(server))) assert.ok(list.includes(server))
      })
    )
  })

  it('differ from what they were made of by the edits, and the same edits make the same list', () => {
    const edits = fc
      .array(fc.tuple(fc.constantFrom(...POOL), fc.boolean()), { minLength: 1 })
      .map(
        (steps): ServerEdits =>
          new Map(
            steps.map(([of, isGone]) => [virtualServerKey(of), { of, now: isGone ? undefined : of }] as const)
          )
      )
    fc.assert(
      fc.property(sorted, edits, edits, (list, first, second) => {
        const one = editedServers(list, first)
        const two = editedServers(one, second)
        holds(one, list)
        holds(two, one)
        holds(two, list)
        holds(list, one)
        assert.equal(editedServers(list, new Map(first)), one)
        const host = { ...EMPTY_HOST, virtualServers: list }
        const ops = plan({ ...EMPTY_HOST, virtualServers: one }, host)
        assert.deepEqual(applyOps(host, ops).virtualServers, one)
      })
    )
  })

  it('of a host are, once a pass has made one change of the desired state, the very list that is wanted', () => {
    const have = normalizeHost({ ...EMPTY_HOST, virtualServers: POOL.filter((_, n) => n % 3 === 1) })
    const [of] = have.virtualServers
    assert.ok(of)
    const now = normalizeVirtualServer({ ...of, realServers: [] })
    const virtualServers = editedServers(have.virtualServers, new Map([[virtualServerKey(of), { of, now }]]))
    const after = applyOps(have, plan({ ...have, virtualServers }, have))
    assert.equal(after.virtualServers, virtualServers)
  })

  it('are edited alike one by one and all at once', () => {
    const many = Array.from({ length: 300 }, (_, n): VirtualServer => ({
      ...(POOL[0] ?? assert.fail()),
      vip: `10.101.${n % 3}.${n % 100}` as Ip,
      port: n
    }))
    const whole = applyOps(
      EMPTY_HOST,
      many.map((virtualServer): HostOp => ({ kind: 'setVirtualServer', virtualServer, before: undefined }))
    )
    let host = EMPTY_HOST
    for (const virtualServer of many)
      host = applyOps(host, [{ kind: 'setVirtualServer', virtualServer, before: undefined }])
    assert.deepEqual(host, whole)
    assert.deepEqual(host, normalizeHost({ ...EMPTY_HOST, virtualServers: many }))
  })

  it('are adopted where they are equal, so that the next comparison is by identity', () => {
    fc.assert(
      fc.property(sorted, sorted, (want, have) => {
        const after = adopted(have, want, sameVirtualServer)
        assert.deepEqual(after, have)
        const [wanted, there] = [
          { ...EMPTY_HOST, virtualServers: want },
          { ...EMPTY_HOST, virtualServers: have }
        ]
        assert.deepEqual(plan(wanted, { ...EMPTY_HOST, virtualServers: after }), plan(wanted, there))
        for (const server of want)
          if (have.some((other) => sameVirtualServer(server, other))) assert.ok(after.includes(server))
      })
    )
  })
})
