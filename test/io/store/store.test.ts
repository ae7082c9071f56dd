import assert from 'node:assert/strict'
import fc from 'fast-check'
import { execFileSync, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import {
  appendFileSync,
  chmodSync,
  chownSync,
  existsSync,
  lchownSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  unlinkSync,
  writeFileSync
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Origin } from '../../../src/core/model/values.ts'
import { originOf } from '../../../src/core/model/identity.ts'
import { StoreError, describe as textOf } from '../../../src/io/store/errors.ts'
import { openStore } from '../../../src/io/store/store.ts'
import type { Identity, Mended, Persist, Store } from '../../../src/io/store/store.ts'

function base64(): string {
  return randomBytes(32).toString('base64')
}

function someOrigin(): Origin {
  return originOf(new Uint8Array(randomBytes(32)))
}

function bytes(text: string): Uint8Array {
  return new TextEncoder().encode(text)
}

function batch(origin: Origin, seq: number, more: Partial<Persist> = {}): Persist {
  const operations = [{ key: `svc/shop/web-${seq}`, seq, value: bytes(`value ${seq}`) }]
  return { origin, epoch: 1, seq, head: bytes(`head ${seq}`), replace: false, operations, ...more }
}

const SYNC = { sync: true }

describe('store', () => {
  let folder = ''
  let root = ''
  const stores: Store[] = []
  const cleanups: (() => void)[] = []

  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), 'rhizome-store-'))
    folder = join(root, 'state')
  })

  afterEach(async () => {
    await Promise.all(stores.splice(0).map((store) => store.close()))
    for (const cleanup of cleanups.splice(0)) cleanup()
    rmSync(root, { recursive: true, force: true })
  })

  async function open(path = folder): Promise<Store> {
    const store = await openStore({ folder: path, now: Date.now })
    stores.push(store)
    return store
  }

  async function reopen(store: Store, harm: () => void = () => undefined): Promise<Store> {
    await store.close()
    harm()
    return open(store.folder)
  }

  function tableFiles(): string[] {
    return readdirSync(join(folder, 'db'))
      .filter((name) => /\.(ldb|log)$/.test(name))
      .map((name) => join(folder, 'db', name))
  }

  function mountTmpfs(options: string): string {
    const path = join(root, 'mnt')
    mkdirSync(path)
    execFileSync('mount', ['-t', 'tmpfs', '-o', options, 'tmpfs', path])
    cleanups.push(() => execFileSync('umount', [path]))
    return path
  }

  const identity: Identity = {
    nodeSeed: base64(),
    tunnelSeed: base64(),
    clusterSeed: base64(),
    rootSeeds: [base64()],
    mesh: { k: 1, rootKeys: [base64()] },
    cluster: 'west',
    clusterItem: Buffer.from('item').toString('base64'),
    podPrefixes: ['10.1.0.0/16'],
    bootstrap: ['/ip4/192.0.2.1/tcp/7946'],
    joinedBy: 'init'
  }
  const secrets = [
    identity.nodeSeed,
    identity.tunnelSeed,
    identity.clusterSeed,
    ...(identity.rootSeeds ?? [])
  ]

  it('is empty at first, without a warning', async () => {
    const store = await open()
    assert.equal(store.identity(), undefined)
    assert.equal(store.counters(), undefined)
    assert.deepEqual(store.loadReplica(), {
      origins: [],
      parts: [],
      dropped: [],
      lost: false,
      seen: new Map()
    })
    assert.deepEqual(store.warnings, [])
  })

  it('gives back what it was given: identity, counters, replica', async () => {
    const [a, b] = [someOrigin(), someOrigin()]
    const store = await open()
    await store.saveIdentity(identity)
    await store.saveCounters({ epoch: 3, seqReserved: 1_000 })
    await store.persist(batch(a, 1, { credential: bytes('credential of a') }), SYNC)
    await store.persist(batch(a, 2), { sync: false })
    await store.persist(
      batch(a, 3, { operations: [{ key: 'svc/shop/web-1', seq: 3, value: undefined }] }),
      SYNC
    )
    await store.persist(batch(b, 7), SYNC)
    const again = await reopen(store)
    assert.deepEqual(again.identity(), identity)
    assert.deepEqual(again.counters(), { epoch: 3, seqReserved: 1_000 })
    const { origins, dropped, lost } = again.loadReplica()
    assert.deepEqual([dropped, lost, again.warnings], [[], false, []])
    assert.deepEqual(
      origins.find(({ origin }) => origin === a),
      {
        origin: a,
        epoch: 1,
        seq: 3,
        head: bytes('head 3'),
        credential: bytes('credential of a'),
        records: [{ key: 'svc/shop/web-2', seq: 2, value: bytes('value 2') }]
      }
    )
    assert.equal(origins.find(({ origin }) => origin === b)?.records.length, 1)
    assert.deepEqual(again.loadReplica().origins, [])
  })

  it('replaces an origin whole, removes it whole, and keeps what was seen of it', async () => {
    const [a, b] = [someOrigin(), someOrigin()]
    const store = await open()
    for (const origin of [a, b]) for (const seq of [1, 2, 3]) await store.persist(batch(origin, seq), SYNC)
    await store.persist(batch(a, 9, { replace: true }), SYNC)
    await store.removeOrigin(b)
    const { origins, seen } = (await reopen(store)).loadReplica()
    assert.deepEqual(
      origins.map(({ origin, records }) => [origin, records.map(({ key }) => key)]),
      [[a, ['svc/shop/web-9']]]
    )
    assert.deepEqual(seen.get(b), { epoch: 1, seq: 3 })
    assert.deepEqual(seen.get(a), { epoch: 1, seq: 9 })
  })

  it('never lowers what was seen of an origin', async () => {
    const a = someOrigin()
    const store = await open()
    await store.persist(batch(a, 9, { epoch: 2 }), SYNC)
    await store.persist(batch(a, 5, { epoch: 1, replace: true }), SYNC)
    assert.deepEqual((await reopen(store)).loadReplica().seen.get(a), { epoch: 2, seq: 9 })
  })

  it('loses nothing that was acknowledged when it is killed at any moment', async () => {
    const origin = someOrigin()
    let first = 1
    for (let round = 0; round < 5; round += 1) {
      const child = spawn(process.execPath, [
        join(import.meta.dirname, 'write-loop.ts'),
        folder,
        origin,
        String(first)
      ])
      let out = ''
      child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()))
      let err = ''
      child.stderr.on('data', (chunk: Buffer) => (err += chunk.toString()))
      const exit = once(child, 'close')
      const enough = 120 + round * 37
      child.stdout.on('data', () => {
        if (out.split('\n').length > enough) child.kill('SIGKILL')
      })
      const timer = setTimeout(() => child.kill('SIGKILL'), 15_000)
      await exit
      clearTimeout(timer)
      const acknowledged = Number(out.trimEnd().split('\n').at(-1))
      assert.ok(acknowledged >= first + 100, `the child wrote too little: ${err}`)
      const store = await open()
      const loaded = store.loadReplica().origins[0]
      assert.deepEqual(store.warnings, [])
      assert.ok(
        loaded !== undefined && loaded.seq >= acknowledged,
        `acknowledged ${acknowledged}, found ${loaded?.seq}`
      )
      assert.deepEqual(loaded.head, bytes(`head ${loaded.seq}`))
      assert.equal(loaded.records.find(({ key }) => key === 'agent')?.seq, loaded.seq)
      // Each of the last 50 seqs wrote a key of its own, unless a replacement swept it away.
      for (let seq = Math.max(1, loaded.seq - 49); seq <= loaded.seq; seq += 1) {
        if (Math.floor(seq / 100) < Math.floor(loaded.seq / 100)) continue
        assert.equal(loaded.records.find(({ key }) => key === `svc/shop/k${seq % 50}`)?.seq, seq)
      }
      assert.ok((store.counters()?.seqReserved ?? 0) >= acknowledged - 20)
      await store.close()
      first = loaded.seq + 1
    }
  })

  it('drops the origin of a record with flipped bytes, reports it, and keeps the others', async () => {
    const [a, b] = [someOrigin(), someOrigin()]
    const store = await open()
    await store.persist(
      batch(a, 1, { operations: [{ key: 'agent', seq: 1, value: bytes('THE-VICTIM') }] }),
      SYNC
    )
    await store.persist(batch(b, 2), SYNC)
    // Twice: the first start moves the log into a table file, without a checksum when it is read.
    const moved = await reopen(store)
    let flips = 0
    const again = await reopen(moved, () => {
      for (const file of tableFiles()) {
        const content = readFileSync(file)
        const at = content.indexOf('THE-VICTIM')
        if (at < 0) continue
        content.fill(0x55, at, at + 4)
        writeFileSync(file, content)
        flips += 1
      }
    })
    assert.equal(flips, 1)
    const replica = again.loadReplica()
    assert.deepEqual(
      replica.origins.map(({ origin }) => origin),
      [b]
    )
    assert.deepEqual(replica.dropped, [{ origin: a, reason: 'a record fails its checksum' }])
    assert.deepEqual(replica.seen.get(a), { epoch: 1, seq: 1 })
    assert.match(again.warnings.join(), new RegExp(`replica of ${a} was dropped because`))
    const mended = await reopen(again)
    assert.deepEqual(mended.warnings, [])
    assert.deepEqual(mended.loadReplica().dropped, [])
  })

  it('sets a database without CURRENT aside instead of taking it for a new one', async () => {
    const store = await open()
    await store.saveIdentity(identity)
    await store.saveCounters({ epoch: 4, seqReserved: 10 })
    await store.persist(batch(someOrigin(), 1), SYNC)
    const again = await reopen(store, () => unlinkSync(join(folder, 'db', 'CURRENT')))
    assert.deepEqual(again.loadReplica(), {
      origins: [],
      parts: [],
      dropped: [],
      lost: true,
      seen: new Map()
    })
    assert.match(again.warnings.join(), /is damaged .*moved it to .*db\.corrupt-/)
    const aside = readdirSync(folder).find((name) => name.startsWith('db.corrupt-')) ?? assert.fail()
    assert.ok(readdirSync(join(folder, aside)).some((name) => name.startsWith('MANIFEST')))
    assert.deepEqual(again.identity(), identity)
    assert.deepEqual(again.counters(), { epoch: 4, seqReserved: 10 })
    await again.persist(batch(someOrigin(), 1), SYNC)
    assert.deepEqual((await reopen(again)).warnings, [])
  })

  it('sets a database with a broken manifest aside, and reports one that is gone', async () => {
    const store = await open()
    await store.persist(batch(someOrigin(), 1), SYNC)
    const again = await reopen(store, () => {
      for (const name of readdirSync(join(folder, 'db'))) {
        if (name.startsWith('MANIFEST')) writeFileSync(join(folder, 'db', name), 'garbage')
      }
    })
    assert.ok(again.loadReplica().lost)
    assert.match(again.warnings.join(), /moved it to/)
    const gone = await reopen(again, () => rmSync(join(folder, 'db'), { recursive: true }))
    assert.ok(gone.loadReplica().lost)
    assert.match(gone.warnings.join(), /was deleted/)
  })

  it('uses the copy of a damaged identity, sets the damaged one aside and says so', async () => {
    for (const harm of ['{"version":1,', '', '{"version":1,"checksum":"x","identity":{}}']) {
      const path = join(root, `harm-${harm.length}`)
      const store = await open(path)
      await store.saveIdentity(identity)
      const again = await reopen(store, () => writeFileSync(join(path, 'identity.json'), harm))
      assert.deepEqual(again.identity(), identity)
      assert.match(again.warnings.join(), /identity\.json was damaged .* uses the copy/)
      assert.ok(readdirSync(path).some((name) => name.startsWith('identity.corrupt-')))
      assert.deepEqual((await reopen(again)).warnings, [])
    }
  })

  it('refuses to start when both copies of the identity are damaged, leaves them, and quotes no secret', async () => {
    const store = await open()
    await store.saveIdentity(identity)
    await store.close()
    const files = ['identity.json', 'identity.bak.json'].map((name) => join(folder, name))
    for (const file of files)
      writeFileSync(file, readFileSync(file, 'utf8').replace('"cluster": "west"', '"cluster": "w'))
    for (let attempt = 0; attempt < 2; attempt += 1) {
      await assert.rejects(open(), (error: unknown) => {
        assert.ok(error instanceof StoreError)
        assert.equal(error.code, 'IDENTITY_CORRUPT')
        assert.match(error.fix, /restore identity\.json/)
        const text = `${textOf(error)} ${error.fix} ${error.stack ?? ''} ${JSON.stringify(error)}`
        for (const secret of secrets) assert.ok(!text.includes((secret ?? '').slice(0, 12)))
        return true
      })
    }
    assert.ok(files.every((file) => existsSync(file)))
  })

  it('changes of the identity that are asked for at once follow each other: none undoes another, whatever fails', async () => {
    const store = await open()
    assert.equal(await store.changeIdentity(() => assert.fail('there is none')), undefined)
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.constantFrom('adds', 'throws', 'is invalid', 'does nothing'), { maxLength: 12 }),
        async (kinds) => {
          await store.saveIdentity({ ...identity, rootsInFiles: [] })
          const keys = kinds.map(base64)
          const results = await Promise.allSettled(
            kinds.map((kind, at) =>
              store.changeIdentity((now) => {
                if (kind === 'throws') throw new Error('no')
                if (kind === 'does nothing') return now
                const more = [...(now.rootsInFiles ?? []), keys[at] ?? '']
                return { ...now, rootsInFiles: more, ...(kind === 'is invalid' && { nodeSeed: 'x' }) }
              })
            )
          )
          const isDone = (kind: string) => kind === 'adds' || kind === 'does nothing'
          assert.deepEqual(
            results.map(({ status }) => status === 'fulfilled'),
            kinds.map(isDone)
          )
          assert.deepEqual(
            store.identity()?.rootsInFiles,
            keys.filter((_, at) => kinds[at] === 'adds')
          )
        }
      ),
      { numRuns: 20 }
    )
    assert.deepEqual((await reopen(store)).identity()?.nodeSeed, identity.nodeSeed)
  })

  it('refuses an identity that it could not read back, and quotes no value of it', async () => {
    const store = await open()
    await store.saveIdentity(identity)
    const wrong = { ...identity, nodeSeed: 'SECRET-of-wrong-length', extra: 'SECRET' }
    await assert.rejects(store.saveIdentity(wrong), (error: unknown) => {
      assert.ok(error instanceof StoreError)
      assert.equal(error.code, 'IDENTITY_INVALID')
      assert.match(error.message, /nodeSeed.*extra/)
      assert.ok(!`${textOf(error)}${error.stack ?? ''}`.includes('SECRET'))
      return true
    })
    assert.deepEqual((await reopen(store)).identity(), identity)
  })

  it('keeps secrets from other users: folder 0700, files 0600', async () => {
    mkdirSync(folder, { mode: 0o755 })
    const store = await open()
    await store.saveIdentity(identity)
    await store.saveCounters({ epoch: 1, seqReserved: 1 })
    assert.equal(statSync(folder).mode & 0o777, 0o700)
    for (const name of ['identity.json', 'identity.bak.json', 'counters.json', 'store.json']) {
      assert.equal(statSync(join(folder, name)).mode & 0o777, 0o600, name)
    }
  })

  const exposed: readonly (readonly [
    what: string,
    expose: (folder: string) => string | undefined,
    shown: RegExp
  ])[] = [
    [
      'a folder of another user',
      (path) => {
        chownSync(path, 1234, 1234)
        return undefined
      },
      /belongs to another user \(uid 1234/
    ],
    [
      'a link to a folder of another user',
      (path) => {
        chownSync(path, 1234, 1234)
        symlinkSync(path, `${path}-link`)
        return `${path}-link`
      },
      /belongs to another user \(uid 1234/
    ],
    [
      'a link of another user',
      (path) => {
        symlinkSync(path, `${path}-link`)
        lchownSync(`${path}-link`, 1234, 1234)
        return `${path}-link`
      },
      /is a link of another user/
    ],
    [
      'a folder with keys that others can write',
      (path) => {
        chmodSync(path, 0o777)
        return undefined
      },
      /can be written by other users \(mode 0777\)/
    ],
    [
      'a folder with keys that a group can write',
      (path) => {
        chmodSync(path, 0o720)
        return undefined
      },
      /can be written by other users \(mode 0720\)/
    ],
    [
      'keys that all can read',
      (path) => {
        chmodSync(join(path, 'identity.json'), 0o644)
        return undefined
      },
      /identity\.json holds keys .*0644/
    ],
    [
      'a copy of the keys that a group can read',
      (path) => {
        chmodSync(join(path, 'identity.bak.json'), 0o640)
        return undefined
      },
      /identity\.bak\.json holds keys .*0640/
    ],
    [
      'keys of another user',
      (path) => {
        chownSync(join(path, 'identity.json'), 1234, 1234)
        return undefined
      },
      /identity\.json belongs to another user/
    ],
    [
      'a link in the place of the keys',
      (path) => {
        renameSync(join(path, 'identity.json'), join(root, 'elsewhere.json'))
        symlinkSync(join(root, 'elsewhere.json'), join(path, 'identity.json'))
      },
      /identity\.json is a link/
    ],
    [
      'a folder in the place of the keys',
      (path) => {
        unlinkSync(join(path, 'identity.json'))
        mkdirSync(join(path, 'identity.json'))
      },
      /identity\.json is not a file/
    ]
  ]
  for (const [what, expose, shown] of exposed) {
    it(`refuses ${what}, with the fix, and changes nothing`, async () => {
      assert.equal(process.getuid?.(), 0, 'this test changes owners: run it as root')
      const store = await open()
      await store.saveIdentity(identity)
      await store.close()
      const path = expose(folder) ?? folder
      const before = statSync(folder).mode
      await assert.rejects(open(path), (error: unknown) => {
        assert.ok(error instanceof StoreError)
        assert.equal(error.code, 'STATE_EXPOSED')
        assert.match(error.message, shown)
        assert.match(error.fix, /chmod|chown|link|move|put/)
        return true
      })
      assert.equal(statSync(folder).mode, before)
    })
  }

  it('closes a folder with keys that others can only read, and says so; a link of our own is as good as the folder', async () => {
    const store = await open()
    await store.saveIdentity(identity)
    await store.close()
    chmodSync(folder, 0o755)
    symlinkSync(folder, `${folder}-link`)
    const again = await open(`${folder}-link`)
    assert.match(
      again.warnings.join(),
      /other users could read .* \(mode 0755\); the agent has set the mode 0700/
    )
    assert.equal(statSync(folder).mode & 0o777, 0o700)
    assert.deepEqual(again.identity(), identity)
  })

  const removals: readonly (readonly [what: string, remove: (folder: string) => void, mended: Mended])[] = [
    ['nothing', () => undefined, 'sound'],
    ['the whole folder', (path) => rmSync(path, { recursive: true }), 'replica'],
    [
      'the whole folder, with an empty one in its place,',
      (path) => {
        rmSync(path, { recursive: true })
        mkdirSync(path, { mode: 0o755 })
      },
      'replica'
    ],
    ['the identity', (path) => unlinkSync(join(path, 'identity.json')), 'files'],
    [
      'the identity and its copy',
      (path) => {
        unlinkSync(join(path, 'identity.json'))
        unlinkSync(join(path, 'identity.bak.json'))
      },
      'files'
    ],
    ['the counters', (path) => unlinkSync(join(path, 'counters.json')), 'files'],
    ['the marker', (path) => unlinkSync(join(path, 'store.json')), 'files'],
    ['the database', (path) => rmSync(join(path, 'db'), { recursive: true }), 'replica'],
    ['a file of the database', (path) => unlinkSync(join(path, 'db/CURRENT')), 'replica'],
    [
      'the log of the database',
      (path) => {
        for (const name of readdirSync(join(path, 'db')))
          if (name.endsWith('.log')) unlinkSync(join(path, 'db', name))
      },
      'replica'
    ]
  ]
  for (const [what, remove, mended] of removals) {
    it(`writes anew from memory when ${what} is removed under it`, async () => {
      const origin = someOrigin()
      const store = await open()
      await store.saveIdentity(identity)
      await store.saveCounters({ epoch: 7, seqReserved: 0 })
      await store.persist(batch(origin, 1), SYNC)
      remove(folder)
      assert.equal(await store.mend(), mended)
      assert.equal(await store.mend(), 'sound')
      await store.persist(batch(origin, 2, { replace: true }), SYNC)
      const again = await reopen(store)
      assert.deepEqual(again.identity(), identity)
      assert.deepEqual(again.counters(), { epoch: 7, seqReserved: 0 })
      assert.deepEqual(
        again.loadReplica().origins.map(({ seq }) => seq),
        [2]
      )
      assert.equal(statSync(folder).mode & 0o777, 0o700)
      assert.equal(statSync(join(folder, 'identity.json')).mode & 0o777, 0o600)
    })
  }

  it('does not bring back an identity that is forgotten at the same moment', async () => {
    const store = await open()
    await store.saveIdentity(identity)
    const state = { isForgotten: false }
    const forgetting = store.forget().then(() => (state.isForgotten = true))
    while (!state.isForgotten) await store.mend()
    await forgetting
    assert.equal(existsSync(join(folder, 'identity.json')), false)
    assert.equal(existsSync(join(folder, 'identity.bak.json')), false)
  })

  it('says that the folder was made read-only, or that its disk is full, before anything is written', async () => {
    const mount = mountTmpfs('size=256k')
    const store = await open(join(mount, 'state'))
    await store.saveIdentity(identity)
    // The kernel does not make a mount read-only that has files open for writing, but for errors of the disk: laid over it, it does.
    const state = join(mount, 'state')
    execFileSync('mount', ['--bind', state, state])
    try {
      execFileSync('mount', ['-o', 'remount,bind,ro', state])
      await assert.rejects(store.mend(), { code: 'STORE_READONLY' })
    } finally {
      execFileSync('umount', [state])
    }
    assert.equal(await store.mend(), 'sound')
    const pad = join(mount, 'pad')
    for (let bytes = 1 << 16; bytes >= 1; bytes >>= 1)
      assert.throws(
        () => {
          for (;;) appendFileSync(pad, Buffer.alloc(bytes))
        },
        { code: 'ENOSPC' }
      )
    await assert.rejects(store.mend(), { code: 'DISK_FULL', fix: /free space/ })
    unlinkSync(pad)
    assert.equal(await store.mend(), 'sound')
  })

  it('says that the agent stops when the disk is full at the start', async () => {
    const mount = mountTmpfs('size=64k')
    assert.throws(() => writeFileSync(join(mount, 'pad'), Buffer.alloc(512 * 1024)), { code: 'ENOSPC' })
    await assert.rejects(open(join(mount, 'state')), {
      code: 'DISK_FULL',
      message: /the agent stops/,
      fix: /free space on that disk, then start the agent again/
    })
  })

  it('says at once that its folder cannot be made, and that the path is at fault', async () => {
    symlinkSync(join(root, 'not mounted'), join(root, 'link'))
    writeFileSync(join(root, 'file'), '')
    symlinkSync('loop', join(root, 'loop'))
    // /proc says ENOENT below a folder that exists, as autofs does.
    const paths = ['/proc/rhizome', '/proc/rhizome/state', '/proc/self/fd/state']
    for (const path of [
      ...paths,
      ...['link', 'link/state', 'file/state', 'loop/state'].map((name) => join(root, name))
    ]) {
      await assert.rejects(open(path), (error: unknown) => {
        assert.ok(error instanceof StoreError)
        assert.doesNotMatch(error.fix, /db/, path)
        assert.match(error.fix, /state-dir/, path)
        return true
      })
    }
    assert.ok(!existsSync(join(root, 'not mounted')))
  })

  it('says for a folder at the place of a file to move that folder, and never to move the database', async () => {
    mkdirSync(join(root, 'state', 'identity.json'), { recursive: true, mode: 0o700 })
    await assert.rejects(open(join(root, 'state')), (error: unknown) => {
      assert.ok(error instanceof StoreError)
      assert.match(error.fix, /^move .*identity\.json away/)
      return true
    })
  })

  it('makes the folders above its own', async () => {
    const store = await open(join(root, 'a/b/c'))
    await store.saveIdentity(identity)
    assert.equal(statSync(join(root, 'a/b/c')).mode & 0o777, 0o700)
  })

  it('touches nothing of a newer store, and names both versions', async () => {
    const store = await open()
    await store.saveIdentity(identity)
    await store.close()
    for (const name of ['store.json', 'identity.json']) {
      const path = join(folder, name)
      const before = readFileSync(path, 'utf8')
      writeFileSync(path, before.replace(/"version": ?[12]/, '"version":7'))
      const listing = (): string[] =>
        readdirSync(folder, { recursive: true }).map((entry) => {
          const { mtimeMs, size } = statSync(join(folder, String(entry)))
          return `${String(entry)} ${mtimeMs} ${size}`
        })
      const untouched = listing()
      await assert.rejects(open(), (error: unknown) => {
        assert.ok(error instanceof StoreError)
        assert.equal(error.code, 'STORE_NEWER')
        assert.match(error.message, /version 7, but this program knows only version [12]/)
        return true
      })
      assert.deepEqual(listing(), untouched)
      writeFileSync(path, before)
    }
  })

  it('refuses an identity of an earlier form with its fix, and changes nothing', async () => {
    const store = await open()
    await store.saveIdentity(identity)
    await store.close()
    const paths = ['identity.json', 'identity.bak.json'].map((name) => join(folder, name))
    const old = readFileSync(paths[0] ?? '', 'utf8')
      .replace(/"version": ?2/, '"version": 1')
      .replace('tunnelSeed', 'wireguardPrivateKey')
    for (const path of paths) writeFileSync(path, old)
    await assert.rejects(open(), (error: unknown) => {
      assert.ok(error instanceof StoreError)
      assert.equal(error.code, 'IDENTITY_CORRUPT')
      assert.match(error.message, /cannot be used: an earlier version of this program wrote it/)
      assert.match(error.fix, /to join again with a new token, move both identity.json and identity.bak.json/)
      return true
    })
    for (const path of paths) assert.equal(readFileSync(path, 'utf8'), old)
  })

  it('is locked for a second process', async () => {
    const origin = someOrigin()
    await open()
    await assert.rejects(open(), { code: 'STORE_LOCKED' })
    const child = spawn(process.execPath, [join(import.meta.dirname, 'write-loop.ts'), folder, origin])
    let err = ''
    child.stderr.on('data', (chunk: Buffer) => (err += chunk.toString()))
    const timer = setTimeout(() => child.kill('SIGKILL'), 15_000)
    await once(child, 'close')
    clearTimeout(timer)
    assert.match(err, /STORE_LOCKED/)
    assert.deepEqual(
      readdirSync(folder).filter((name) => name.includes('corrupt')),
      []
    )
  })

  it('says that the disk is full, keeps what it has, and goes on when there is space', async function () {
    assert.equal(process.getuid?.(), 0, 'this test mounts a tmpfs: run it as root')
    const path = join(mountTmpfs('size=512k'), 'state')
    const origin = someOrigin()
    const store = await open(path)
    await store.saveIdentity(identity)
    let acknowledged = 0
    const fill = async (): Promise<void> => {
      for (let seq = 1; seq < 1_000; seq += 1) {
        const operations = [{ key: `k${seq}`, seq, value: new Uint8Array(randomBytes(8_000)) }]
        await store.persist(batch(origin, seq, { operations }), { sync: false })
        acknowledged = seq
      }
    }
    const isFull = (error: unknown): boolean => {
      assert.ok(error instanceof StoreError)
      assert.equal(error.code, 'DISK_FULL')
      assert.match(error.fix, /free space/)
      return true
    }
    await assert.rejects(fill(), isFull)
    await assert.rejects(store.persist(batch(origin, 5_000), SYNC), isFull)
    const pad = join(path, 'pad')
    try {
      writeFileSync(pad, Buffer.alloc(512 * 1024))
    } catch {
      // The last free bytes are taken; that is what the next line needs.
    }
    await assert.rejects(store.saveIdentity({ ...identity, cluster: 'east' }), isFull)
    assert.deepEqual(store.identity(), identity)
    assert.equal(readdirSync(path).filter((name) => name.endsWith('.tmp')).length, 0)
    unlinkSync(pad)
    execFileSync('mount', ['-o', 'remount,size=4m', join(root, 'mnt')])
    await store.persist(batch(origin, acknowledged + 1), SYNC)
    const again = await reopen(store)
    const [loaded] = again.loadReplica().origins
    assert.equal(loaded?.seq, acknowledged + 1)
    assert.equal(loaded?.records.length, acknowledged + 1)
    assert.deepEqual([again.identity(), again.warnings], [identity, []])
    await again.close()
  })

  it('says what to do when its folder is not writable', async () => {
    assert.equal(process.getuid?.(), 0, 'this test mounts a tmpfs: run it as root')
    const path = mountTmpfs('ro,size=64k')
    for (const where of [path, join(path, 'state')]) {
      await assert.rejects(open(where), (error: unknown) => {
        assert.ok(error instanceof StoreError)
        assert.equal(error.code, 'STORE_READONLY')
        assert.match(error.fix, /`state-dir`/)
        return true
      })
    }
  })

  it('forgets everything secret, also what was set aside', async () => {
    const store = await open()
    await store.saveIdentity(identity)
    await store.persist(batch(someOrigin(), 1), SYNC)
    const again = await reopen(store, () => {
      writeFileSync(
        join(folder, 'identity.json'),
        readFileSync(join(folder, 'identity.json'), 'utf8').replace('west', 'east')
      )
    })
    await again.saveCounters({ epoch: 2, seqReserved: 2 })
    await again.forget()
    assert.equal(again.identity(), undefined)
    for (const name of readdirSync(folder)) {
      if (!statSync(join(folder, name)).isFile()) continue
      const text = readFileSync(join(folder, name), 'latin1')
      for (const secret of secrets) assert.ok(!text.includes(secret ?? ''), name)
    }
    const empty = await reopen(again)
    assert.equal(empty.identity(), undefined)
    assert.equal(empty.counters(), undefined)
    assert.deepEqual(empty.loadReplica(), {
      origins: [],
      parts: [],
      dropped: [],
      lost: false,
      seen: new Map()
    })
    assert.deepEqual(empty.warnings, [])
  })

  it('takes the counters of the database when their file is damaged, and never goes back', async () => {
    const store = await open()
    await store.saveCounters({ epoch: 5, seqReserved: 77 })
    await assert.rejects(store.saveCounters({ epoch: 5, seqReserved: 76 }), RangeError)
    const again = await reopen(store, () =>
      writeFileSync(join(folder, 'counters.json'), '{"version":1,"epoch":4}')
    )
    assert.deepEqual(again.counters(), { epoch: 5, seqReserved: 77 })
    assert.match(again.warnings.join(), /counters\.json is damaged/)
  })
})
