import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Origin } from '../../../src/core/model/values.ts'
import { originOf } from '../../../src/core/model/identity.ts'
import { openStore } from '../../../src/io/store/store.ts'
import type { Part, Persist, Store } from '../../../src/io/store/store.ts'

describe('parts of an unfinished state in the store', () => {
  let folder = ''
  let store: Store
  let origin: Origin

  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), 'rhizome-parts-'))
    store = await openStore({ folder, now: Date.now })
    origin = originOf(new Uint8Array(randomBytes(32)))
  })

  afterEach(async () => {
    await store.close()
    rmSync(folder, { recursive: true, force: true })
  })

  async function reopen(harm: () => void = () => undefined): Promise<ReturnType<Store['loadReplica']>> {
    await store.close()
    harm()
    store = await openStore({ folder, now: Date.now })
    return store.loadReplica()
  }

  function part(afterSeq: number, lastSeq: number, more: Partial<Part> = {}): Part {
    const operations = [{ key: `svc/shop/s${lastSeq}`, seq: lastSeq, value: bytes(`part ${lastSeq}`) }]
    return { origin, head: bytes(`head ${lastSeq}`), atSeq: 9, afterSeq, lastSeq, operations, ...more }
  }

  function whole(seq: number, more: Partial<Persist> = {}): Persist {
    const operations = [{ key: `svc/shop/s${seq}`, seq, value: bytes(`whole ${seq}`) }]
    return { origin, epoch: 1, seq, head: bytes(`whole ${seq}`), replace: true, operations, ...more }
  }

  it('are found by the next life, apart from the records, with head, place and credential', async () => {
    await store.persist(whole(1), { sync: false })
    await store.persistPart(part(0, 3, { credential: bytes('credential') }))
    await store.persistPart(part(3, 5))
    const { origins, parts, dropped } = await reopen()
    assert.deepEqual(keysOf(origins), [['svc/shop/s1']])
    assert.deepEqual(
      parts.map(({ records, ...rest }) => [rest, [...records].map(({ key }) => key)]),
      [
        [
          { origin, head: bytes('head 5'), credential: bytes('credential'), atSeq: 9, lastSeq: 5 },
          ['svc/shop/s3', 'svc/shop/s5']
        ]
      ]
    )
    assert.deepEqual([dropped, store.warnings], [[], []])
  })

  it('become the records in one step, again and again, and what was there before goes', async () => {
    for (const [round, seq] of [10, 20, 30].entries()) {
      await store.persistPart(part(0, seq + 1))
      await store.persistPart(part(seq + 1, seq + 2))
      const operations = [{ key: `svc/shop/s${seq + 1}`, seq: seq + 3 }]
      const adopted = await store.persist(whole(seq + 3, { adopts: seq + 2, operations }), { sync: false })
      assert.ok(adopted)
      await store.persist(whole(seq + 4, { replace: false }), { sync: false })
      const { origins, parts, dropped } = await reopen()
      assert.deepEqual(keysOf(origins), [[`svc/shop/s${seq + 2}`, `svc/shop/s${seq + 4}`]], `round ${round}`)
      assert.equal(origins[0]?.seq, seq + 4)
      assert.deepEqual([parts, dropped, store.warnings], [[], [], []])
    }
    await store.persist(whole(50), { sync: false })
    assert.deepEqual(keysOf((await reopen()).origins), [['svc/shop/s50']])
    await store.removeOrigin(origin)
    assert.deepEqual((await reopen()).origins, [])
  })

  it('are adopted only when all of them are there', async () => {
    await store.persist(whole(1), { sync: false })
    assert.equal(await store.persist(whole(6, { adopts: 5 }), { sync: false }), false)
    await store.persistPart(part(0, 3))
    await store.persistPart(part(4, 5)) // the one before was not taken
    assert.equal(await store.persist(whole(6, { adopts: 5 }), { sync: false }), false)
    const { origins, parts } = await reopen()
    assert.deepEqual([keysOf(origins), keysOf(parts)], [[['svc/shop/s1']], [['svc/shop/s3']]])
  })

  it('go when others begin, when they are dropped, and with nothing else', async () => {
    await store.persistPart(part(0, 3))
    await store.persistPart(part(0, 2))
    assert.deepEqual(keysOf((await reopen()).parts), [['svc/shop/s2']])
    await store.persist(whole(1), { sync: false })
    await store.dropParts(origin)
    const { origins, parts, dropped } = await reopen()
    assert.deepEqual([keysOf(origins), parts, dropped], [[['svc/shop/s1']], [], []])
  })

  it('leave nothing behind that looks like damage when they were all there was', async () => {
    await store.persistPart(part(0, 3, { credential: bytes('credential') }))
    await store.dropParts(origin)
    for (let start = 0; start < 2; start++) {
      const { origins, parts, dropped } = await reopen()
      assert.deepEqual([origins, parts, dropped, store.warnings], [[], [], [], []])
    }
  })

  it('are given up where one is damaged, and the records stay', async () => {
    await store.persist(whole(1), { sync: false })
    const value = bytes('THE-VICTIM')
    await store.persistPart(part(0, 3, { operations: [{ key: 'svc/shop/s3', seq: 3, value }] }))
    await reopen() // moves the log into a table file, without a checksum when it is read
    const { origins, parts, dropped } = await reopen(() => flip('THE-VICTIM'))
    assert.deepEqual([keysOf(origins), parts, dropped], [[['svc/shop/s1']], [], []])
    assert.ok(await store.persist(whole(2), { sync: false }))
  })

  function flip(text: string): void {
    let flips = 0
    for (const name of readdirSync(join(folder, 'db')).filter((name) => /\.(ldb|log)$/.test(name))) {
      const path = join(folder, 'db', name)
      const content = readFileSync(path)
      const at = content.indexOf(text)
      if (at < 0) continue
      content.fill(0x55, at, at + 4)
      writeFileSync(path, content)
      flips++
    }
    assert.equal(flips, 1)
  }
})

function keysOf(states: readonly { readonly records: Iterable<{ readonly key: string }> }[]): string[][] {
  return states.map(({ records }) => [...records].map(({ key }) => key))
}

function bytes(text: string): Uint8Array {
  return new TextEncoder().encode(text)
}
