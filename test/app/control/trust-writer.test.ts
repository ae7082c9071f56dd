import assert from 'node:assert/strict'
import { TrustWriter } from '../../../src/app/control/trust-writer.ts'
import type { KeyId, StatementId } from '../../../src/core/trust/set/ids.ts'
import type { Store, StoredStatement } from '../../../src/io/store/store.ts'

const id = (text: string) => text as StatementId
const table = (...names: string[]) => new Map(names.map((name) => [`name ${name}`, 'k' as KeyId]))

describe('the writer of the trust set', () => {
  it('writes what is new, removes what was cut, and writes the latest tables', async () => {
    const { writer, disk } = make()
    writer.save([id('a'), id('b')])
    writer.remove([id('b')])
    writer.saveTables({ owners: table('x'), generations: new Map() })
    writer.saveTables({ owners: table('x', 'y'), generations: new Map([['k' as KeyId, 2]]) })
    await writer.idle
    assert.deepEqual([...disk.items], [['a', 'item a']])
    assert.deepEqual([disk.owners, disk.generations], [table('x', 'y'), new Map([['k', 2]])])
  })

  it('makes one write of what changes while another is under way', async () => {
    const { writer, disk } = make()
    for (let count = 0; count < 100; count++) writer.save([id(`s${count}`)])
    await writer.idle
    assert.equal(disk.items.size, 100)
    assert.equal(disk.writes, 2)
  })

  it('goes on from memory while the disk is full, says so, and writes everything when there is space', async () => {
    const { writer, disk, log, held } = make()
    disk.isFull = true
    writer.save([id('a')])
    writer.saveTables({ owners: table('x'), generations: new Map() })
    await writer.idle
    assert.match(writer.diskFault ?? '', /disk is full/)
    for (let ms = 0; ms < 5000; ms += 200) {
      writer.save([id(`s${ms}`)])
      writer.tick(ms)
      await writer.idle
    }
    assert.ok(disk.attempts <= 7, `${disk.attempts} attempts`)
    assert.equal(log.errors, 1)
    writer.remove([id('s0')])
    held.delete('s200') // it left the set while it was not on disk
    disk.isFull = false
    writer.tick(10_000)
    await writer.idle
    assert.equal(writer.diskFault, undefined)
    assert.equal(disk.items.size, 1 + 25 - 2)
    assert.deepEqual(disk.owners, table('x'))
  })

  it('does not return before a statement of its own is on disk, and rejects when the disk refuses it', async () => {
    const { writer, disk } = make()
    const own = [{ id: id('own'), item: new TextEncoder().encode('own') }]
    disk.isFull = true
    await assert.rejects(writer.writeFirst(own), /disk is full/)
    assert.match(writer.diskFault ?? '', /disk is full/)
    disk.isFull = false
    await writer.writeFirst(own)
    assert.deepEqual([...disk.items.keys()], ['own'])
    writer.tick(5000)
    await writer.idle
    assert.equal(writer.diskFault, undefined)
  })

  it('writes all of the set again when the store has lost it', async () => {
    const { writer, disk, held } = make()
    for (const name of ['a', 'b', 'c']) held.set(name, `item ${name}`)
    writer.rewrite()
    await writer.idle
    assert.deepEqual([...disk.items.keys()], ['a', 'b', 'c'])
  })
})

/** A writer over a disk in memory. The set has an item for each id that is not in `held` with another answer. */
function make() {
  const held = new Map<string, string>()
  const seen = new Set<string>()
  const log = { errors: 0 }
  const disk = {
    items: new Map<string, string>(),
    owners: new Map<string, KeyId>(),
    generations: new Map<KeyId, number>(),
    isFull: false,
    attempts: 0,
    writes: 0
  }
  const attempt = async (write: () => void): Promise<void> => {
    disk.attempts++
    await Promise.resolve()
    if (disk.isFull) throw new Error('the disk is full')
    disk.writes++
    write()
  }
  const store: Pick<Store, 'saveTrust' | 'removeTrust' | 'saveOwners' | 'saveGenerations'> = {
    saveTrust: (statements: readonly StoredStatement[]) =>
      attempt(() => {
        for (const one of statements) disk.items.set(one.id, new TextDecoder().decode(one.item))
      }),
    removeTrust: (ids) =>
      attempt(() => {
        for (const one of ids) disk.items.delete(one)
      }),
    saveOwners: (owners) =>
      attempt(() => {
        disk.owners = new Map(owners)
      }),
    saveGenerations: (generations) =>
      attempt(() => {
        disk.generations = new Map(generations)
      })
  }
  const writer = new TrustWriter({
    store,
    set: {
      ids: () => [...held.keys()].map(id),
      itemOf: (one) => {
        if (!seen.has(one)) held.set(one, `item ${one}`)
        seen.add(one)
        const item = held.get(one)
        return item === undefined ? undefined : new TextEncoder().encode(item)
      }
    },
    log: { error: () => log.errors++, info: () => undefined } as never
  })
  return { writer, disk, log, held }
}
