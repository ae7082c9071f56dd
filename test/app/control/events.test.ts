import assert from 'node:assert/strict'
import type { ClusterName, Origin } from '../../../src/core/model/values.ts'
import { Events } from '../../../src/app/control/events.ts'
import { createMetrics } from '../../../src/app/observe/metrics.ts'

const EAST = 'east' as ClusterName
const peerOf = (name: string) => name as Origin

describe('events', () => {
  let nowMs = 1_000_000
  let lines: { level: string; fields: Record<string, unknown>; text: string }[] = []
  const make = (metrics = createMetrics()) => {
    nowMs = 1_000_000
    lines = []
    const line = (level: string) => (fields: unknown, text?: string) =>
      void lines.push({ level, fields: fields as Record<string, unknown>, text: text ?? '' })
    const log = { warn: line('warn'), info: line('info') }
    return new Events({ log: log as never, metrics, now: () => nowMs })
  }
  const refused = (peer: string, reason: string, cluster: ClusterName | null = EAST) =>
    ({ kind: 'refused', peer: peerOf(peer), cluster: cluster ?? undefined, reason }) as const

  it('name the peer and its cluster, and join equal ones within a minute', () => {
    const events = make()
    for (let index = 0; index < 100; index++) {
      events.add(refused('a', `handshake clock: off by ${index} s`))
      nowMs += 100
    }
    events.add({ kind: 'banned', peer: peerOf('a'), cluster: EAST, reason: 'for 10 s' })
    nowMs += 60_000
    events.add(refused('a', 'handshake clock: off by 7 s'))
    const rows = events.rows()
    assert.deepEqual(
      rows.map(({ kind, peerId, cluster, reason, count }) => [kind, peerId, cluster, reason, count]),
      [
        ['refused', 'a', 'east', 'handshake clock: off by 99 s', 100],
        ['banned', 'a', 'east', 'for 10 s', 1],
        ['refused', 'a', 'east', 'handshake clock: off by 7 s', 1]
      ]
    )
    assert.equal(rows[0]?.at, new Date(1_000_000).toISOString())
    assert.equal(rows[0]?.lastAt, new Date(1_009_900).toISOString())
  })

  it('name what a view refuses of other clusters, 64 records a change, once for each change', () => {
    const events = make()
    const refusals = Array.from({ length: 1000 }, (_, index) => ({
      origin: peerOf('a'),
      key: `svc/shop/${index}`,
      reason: 'the cluster IP 10.2.0.1 is outside the service prefixes'
    }))
    const cluster = (name: string) => ({ name, refusals })
    const view = { self: 'west', clusters: new Map([EAST, 'west'].map((name) => [name, cluster(name)])) }
    assert.equal(events.ofView(view as never), view)
    events.ofView(view as never)
    const [row, ...others] = events.rows()
    assert.deepEqual(others, [])
    assert.deepEqual([row?.kind, row?.peerId, row?.cluster, row?.count], ['refused', 'a', 'east', 64])
    assert.match(
      row?.reason ?? '',
      /^record refused: the cluster IP 10\.2\.0\.1 is outside .*, under svc\/shop\/63$/
    )
    events.ofView({ self: 'west', clusters: new Map([[EAST, cluster(EAST)]]) } as never)
    assert.equal(events.rows()[0]?.count, 128)
  })

  it('look at a view once, however often it is asked for', () => {
    const events = make()
    let looks = 0
    const clusters = { values: () => (looks++, [].values()) }
    const view = { self: 'west', clusters } as never
    for (let index = 0; index < 10; index++) events.ofView(view)
    assert.equal(looks, 1)
    events.ofView({ self: 'west', clusters } as never)
    assert.equal(looks, 2)
  })

  it('are logged at once, then as a sum every 10 s, and never more than 21 lines in 10 s', () => {
    const events = make()
    events.tick(10_000)
    for (let index = 0; index < 500; index++) events.add(refused('a', 'bad signature'))
    assert.equal(lines.length, 1)
    events.tick(19_999)
    assert.equal(lines.length, 1)
    events.tick(20_000)
    assert.equal(lines.length, 2)
    assert.deepEqual([lines[1]?.fields['peer'], lines[1]?.fields['more']], ['a', 499])
    events.tick(30_000)
    assert.equal(lines.length, 2)
    for (let index = 0; index < 500; index++) events.add(refused(`stranger${index}`, 'handshake mesh', null))
    events.tick(40_000)
    assert.ok(lines.length <= 2 + 21)
    assert.match(lines.at(-1)?.text ?? '', /more events/)
  })

  it('may have a line of their own, and none where the control plane logs it', () => {
    const events = make()
    events.tick(10_000)
    const line = { text: 'handshake refused', fields: { code: 'mesh' } }
    for (let index = 0; index < 3; index++) events.add({ ...refused('a', 'handshake mesh: other'), line })
    events.add({ kind: 'disconnected', peer: peerOf('b'), cluster: EAST, reason: 'closed by the peer' })
    events.tick(20_000)
    assert.deepEqual(
      lines.map(({ text, fields }) => [text, fields['code'], fields['more']]),
      [
        ['handshake refused', 'mesh', undefined],
        ['handshake refused', 'mesh', 2]
      ]
    )
  })

  it('of strangers do not push out those of a cluster, and stay bounded', async () => {
    const metrics = createMetrics()
    const events = make(metrics)
    for (let index = 0; index < 40; index++) events.add(refused('a', `reason ${index}`))
    for (let index = 0; index < 5000; index++) events.add(refused(`s${index}`, 'handshake mesh', null))
    const rows = events.rows()
    assert.equal(rows.length, 512)
    assert.equal(rows.filter(({ cluster }) => cluster === EAST).length, 40)
    assert.match(await metrics.registry.metrics(), /rhizome_events_total\{kind="refused"\} 5040/)
  })

  it('keep a peer’s text on one line, and short', () => {
    const events = make()
    events.add(refused('a', `handshake version: \n\u001b[2J${'x'.repeat(5000)}`))
    const [row] = events.rows()
    assert.ok(row && row.reason.length <= 200)
    assert.ok(!row.reason.includes('\n') && !row.reason.includes('\u001b'))
  })
})
