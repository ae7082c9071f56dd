// The tables of trust on disk: what is written is there after kill -9, damage drops rows and nothing else, and a full
// disk loses nothing that was there.
import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { KeyId, StatementId } from '../../../src/core/trust/set/ids.ts'
import { openStore, type Store, type StoredStatement, type StoredTrust } from '../../../src/io/store/store.ts'

describe('the tables of trust in the store', () => {
  let root = ''
  let store: Store
  const cleanups: (() => void)[] = []

  beforeEach(async () => {
    root = mkdtempSync(join(tmpdir(), 'rhizome-trust-'))
    store = await openStore({ folder: join(root, 'state'), now: Date.now })
  })

  afterEach(async () => {
    await store.close()
    for (const cleanup of cleanups.splice(0)) cleanup()
    rmSync(root, { recursive: true, force: true })
  })

  async function reopen(harm: () => void = () => undefined): Promise<StoredTrust> {
    const { folder } = store
    await store.close()
    harm()
    store = await openStore({ folder, now: Date.now })
    return store.loadTrust()
  }

  /** Changes bytes of each file that holds this text, and fails where none does. */
  function flip(text: string): void {
    let flips = 0
    const folder = join(store.folder, 'db')
    for (const name of readdirSync(folder).filter((name) => /\.(ldb|log)$/.test(name))) {
      const path = join(folder, name)
      const content = readFileSync(path)
      const at = content.lastIndexOf(text)
      if (at < 0) continue
      content.fill(0x55, at, at + 4)
      writeFileSync(path, content)
      flips++
    }
    assert.ok(flips > 0, `${text} is nowhere`)
  }

  it('are empty at first', () => assert.deepEqual(store.loadTrust(), trust({})))

  it('give back what they were given, once', async () => {
    const [one, other] = [statement('one'), statement('other')]
    const owners = new Map([
      ['name east', key('east')],
      ['10.1.0.0/16', key('east')],
      ['fd00:1::/64', key('west')]
    ])
    const generations = new Map([
      [key('east'), 3],
      [key('west'), 0]
    ])
    await store.saveTrust([one, other])
    await store.saveOwners(owners)
    await store.saveGenerations(generations)
    assert.deepEqual(sorted(await reopen()), trust({ items: [one, other], owners, generations }))
    assert.deepEqual(store.loadTrust(), trust({}))
    assert.deepEqual(store.warnings, [])
  })

  it('lose what is removed, and nothing else', async () => {
    const [one, other] = [statement('one'), statement('other')]
    await store.saveTrust([one, other])
    await store.removeTrust([one.id, statement('never written').id])
    await store.saveOwners(
      new Map([
        ['name a', key('a')],
        ['name b', key('b')]
      ])
    )
    await store.saveOwners(new Map([['name b', key('c')]]))
    assert.deepEqual(
      sorted(await reopen()),
      trust({ items: [other], owners: new Map([['name b', key('c')]]) })
    )
  })

  it('never lower a generation, also after a restart', async () => {
    await store.saveGenerations(
      new Map([
        [key('a'), 5],
        [key('gone'), 9]
      ])
    )
    await store.saveGenerations(new Map([[key('a'), 4]]))
    assert.deepEqual((await reopen()).generations, new Map([[key('a'), 5]]))
    await store.saveGenerations(new Map([[key('a'), 3]]))
    assert.deepEqual((await reopen()).generations, new Map([[key('a'), 5]]))
  })

  it('drop a damaged row with a warning, and keep the others', async () => {
    const [good, bad] = [statement('good'), statement('THE-VICTIM')]
    await store.saveTrust([good, bad])
    await store.saveOwners(
      new Map([
        ['name good', key('good')],
        ['name bad', key('bad')]
      ])
    )
    await store.saveGenerations(new Map([[key('good'), 1]]))
    await reopen() // moves the log into a table file, without a checksum when it is read
    const found = await reopen(() => {
      flip('THE-VICTIM')
      flip(key('bad'))
    })
    assert.deepEqual(
      sorted(found),
      trust({
        items: [good],
        owners: new Map([['name good', key('good')]]),
        generations: new Map([[key('good'), 1]])
      })
    )
    assert.deepEqual(store.loadReplica().lost, false)
    assert.match(store.warnings.join('\n'), /^1 stored statements of trust were damaged and dropped/m)
    assert.match(store.warnings.join('\n'), /^1 rows of the table of owners were damaged and dropped/m)
    await reopen()
    assert.deepEqual(store.warnings, [])
  })

  it('drop a damaged generation', async () => {
    await store.saveGenerations(
      new Map([
        [key('victim'), 0x41424344],
        [key('good'), 2]
      ])
    )
    await reopen()
    const found = await reopen(() => flip('ABCD'))
    assert.deepEqual(found.generations, new Map([[key('good'), 2]]))
    assert.match(store.warnings.join('\n'), /^1 rows of the table of generations were damaged/m)
  })

  it('go when the agent forgets its mesh', async () => {
    await store.saveTrust([statement('one')])
    await store.saveOwners(new Map([['name a', key('a')]]))
    await store.forget()
    await store.saveOwners(new Map([['name a', key('a')]])) // it was removed, so it must be written again
    assert.deepEqual(await reopen(), trust({ owners: new Map([['name a', key('a')]]) }))
  })

  it('are written again after their files were deleted', async () => {
    const owners = new Map([['name a', key('a')]])
    await store.saveOwners(owners)
    rmSync(join(store.folder, 'db'), { recursive: true })
    assert.equal(await store.mend(), 'replica')
    await store.saveTrust([statement('one')])
    await store.saveOwners(owners)
    assert.deepEqual(await reopen(), trust({ items: [statement('one')], owners }))
  })

  it('say that the disk is full, keep what they have, and go on when there is space', async function () {
    assert.equal(process.getuid?.(), 0, 'this test mounts a tmpfs: run it as root')
    const mount = join(root, 'mnt')
    mkdirSync(mount)
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=512k', 'tmpfs', mount])
    cleanups.push(() => execFileSync('umount', [mount]))
    await store.close()
    store = await openStore({ folder: join(mount, 'state'), now: Date.now })
    const written: StoredStatement[] = []
    const fill = async (): Promise<void> => {
      for (let count = 0; count < 1000; count++) {
        const next = statement(`${count}`, 8000)
        await store.saveTrust([next])
        written.push(next)
      }
    }
    await assert.rejects(fill(), { code: 'DISK_FULL', fix: /free space/ })
    const owners = new Map(Array.from({ length: 500 }, (_, at) => [`name c${at}`, key(`c${at}`)] as const))
    await assert.rejects(store.saveOwners(owners), { code: 'DISK_FULL' })
    execFileSync('mount', ['-o', 'remount,size=4m', mount])
    // What was refused is written by the next attempt, although it is the same table.
    await store.saveOwners(owners)
    assert.deepEqual(sorted(await reopen()), trust({ items: written, owners }))
    assert.deepEqual(store.warnings, [])
    await store.close()
  })

  it('lose nothing that was acknowledged when the agent is killed at any moment', async () => {
    const { folder } = store
    await store.close()
    let first = 1
    for (let round = 0; round < 4; round++) {
      const child = spawn(process.execPath, [
        join(import.meta.dirname, 'write-trust-loop.ts'),
        folder,
        String(first)
      ])
      let [out, err] = ['', '']
      child.stderr.on('data', (chunk: Buffer) => (err += chunk.toString()))
      const exit = once(child, 'close')
      child.stdout.on('data', (chunk: Buffer) => {
        out += chunk.toString()
        if (out.split('\n').length > 40 + round * 17) child.kill('SIGKILL')
      })
      const timer = setTimeout(() => child.kill('SIGKILL'), 15_000)
      await exit
      clearTimeout(timer)
      const acknowledged = Number(out.trimEnd().split('\n').at(-1))
      assert.ok(acknowledged >= first + 30, `the child wrote too little: ${err}`)
      store = await openStore({ folder, now: Date.now })
      assert.deepEqual(store.warnings, [])
      const { items, owners, generations } = store.loadTrust()
      const numbers = items.map((item) => Number(new TextDecoder().decode(item).split(' ')[0]))
      const last = Math.max(...numbers)
      assert.ok(last >= acknowledged)
      // The child keeps the last ten statements, one owner for each of them, and one generation. The steps of one number
      // are separate writes, so those of the last number may be missing.
      for (let seq = Math.max(1, acknowledged - 9); seq <= acknowledged; seq++)
        if (seq > last - 9) assert.ok(numbers.includes(seq), `${seq} is missing`)
      // A life that ends between a write and the removal after it leaves one statement more.
      assert.ok(numbers.length <= 11 + round)
      assert.equal(owners.size, 1)
      assert.ok(Number([...owners.keys()][0]?.slice('name c'.length)) >= acknowledged)
      assert.ok((generations.get(key('own')) ?? 0) >= acknowledged)
      await store.close()
      first = last + 1
    }
  })
})

function statement(text: string, bytes = 0): StoredStatement {
  const id = createHash('sha256').update(text).digest('hex') as StatementId
  const item = bytes > 0 ? new Uint8Array(randomBytes(bytes)) : new TextEncoder().encode(`${text} item`)
  return { id, item }
}

function key(text: string): KeyId {
  return createHash('sha256').update(`key ${text}`).digest('hex') as KeyId
}

function trust(
  of: Partial<Omit<StoredTrust, 'items'>> & { readonly items?: readonly StoredStatement[] }
): StoredTrust {
  const items = (of.items ?? []).map(({ item }) => item)
  return sorted({ owners: new Map(), generations: new Map(), ...of, items })
}

function sorted({ items, owners, generations }: StoredTrust): StoredTrust {
  return {
    items: items.toSorted((left, right) => Buffer.compare(left, right)),
    owners: new Map(Array.from(owners).sort(([left], [right]) => (left < right ? -1 : 1))),
    generations: new Map(Array.from(generations).sort(([left], [right]) => (left < right ? -1 : 1)))
  }
}
