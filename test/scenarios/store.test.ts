// The disk of an agent: full, from a newer version, damaged, gone. Traffic flows on in every case, the trouble is told by its
// name, and what was lost comes back from the others.
import assert from 'node:assert/strict'
import {
  cpSync,
  openSync,
  readFileSync,
  readdirSync,
  rmSync,
  writeFileSync,
  writeSync,
  closeSync
} from 'node:fs'
import { join } from 'node:path'
import type { Site } from '../demo/site.ts'
import { eventually } from '../eventually.ts'
import { announce, inStep, raise, reaches, status, undisturbed, unite } from './harness.ts'

describe('the disk', () => {
  const { site } = raise('store', ['west', 'east'], { start: false })
  const west = () => site('west')
  const east = () => site('east')

  before(async () => {
    await west().start()
    await east().startUnder(onSmallDisk(east()))
    await unite(west(), east())
    await reaches(west(), east())
    await reaches(east(), west())
  })

  it('full: status says so, changes travel both ways and traffic flows; with space again nothing is missing', async () => {
    const folder = `/proc/${east().pid}/root${east().state}`
    const filler = join(folder, 'filler')
    await undisturbed(west(), east(), async () => {
      fill(filler)
      // More than what is left of the last page of leveldb's log.
      const eastern = announce(east(), 'while-full', { count: 100 })
      await eventually(async () => {
        const { warnings } = await status(east())
        assert.match(warnings.join('\n'), /store: the disk of .* is full; .*; free space on that disk/)
        return true
      })
      await eastern.seen(west())
      await announce(west(), 'while-full', { count: 100 }).seen(east())
    })

    rmSync(filler)
    await eventually(async () => {
      assert.doesNotMatch((await status(east())).warnings.join('\n'), /the disk of .* is full/)
      return true
    })
    cpSync(folder, east().state, { recursive: true })
    await east().stop('SIGKILL')
    const before = east().tail(1000).length
    await east().start()
    await announce(west(), 'after-full').seen(east())
    await announce(east(), 'after-full').seen(west())
    assert.doesNotMatch(east().tail(1000).slice(before), /damaged|new epoch|moved/)
    await inStep(east())
  })

  it('from a newer version: refuses to start, changes nothing, and the tunnel lives on', async () => {
    await east().stop('SIGTERM')
    const marker = join(east().state, 'store.json')
    const ours = readFileSync(marker, 'utf8')
    writeFileSync(marker, '{"version":99}\n')
    const { exitCode, stderr } = await east().gateway.exec(east().meshd(), { check: false })
    assert.equal(exitCode, 1)
    assert.match(
      stderr,
      /store\.json has version 99, but this program knows only version 1\n {2}fix: run the newer program again/
    )
    assert.equal(readFileSync(marker, 'utf8'), '{"version":99}\n')
    await reaches(west(), east(), 500)
    writeFileSync(marker, ours)
    await east().start()
    await announce(east(), 'after-newer').seen(west())
  })

  const damages: readonly { what: string; damage: (state: string) => void; warning: RegExp }[] = [
    {
      what: 'CURRENT missing',
      damage: (state) => rmSync(join(state, 'db/CURRENT')),
      warning: /the replica in .*db is damaged .*moved it to .*db\.corrupt-/
    },
    {
      what: 'bytes flipped',
      damage: (state) => flip(join(state, 'db')),
      warning: /moved|dropped|damaged|lost what was published/
    },
    {
      what: 'the replica and the counters gone',
      damage: (state) => {
        rmSync(join(state, 'db'), { recursive: true })
        rmSync(join(state, 'counters.json'))
      },
      warning: /the replica in .* was deleted/
    }
  ]
  for (const [index, { what, damage, warning }] of damages.entries()) {
    it(`${what}: reported and set aside, and the mesh heals both ways`, async () => {
      await reaches(west(), east())
      await east().stop('SIGKILL')
      damage(east().state)
      await undisturbed(west(), east(), async () => {
        await east().start()
        await announce(east(), `healed-${index}`).seen(west())
        await announce(west(), `healed-${index}`).seen(east())
        await eventually(async () => warning.test((await status(east())).warnings.join('\n')))
        await inStep(east())
        await reaches(east(), west())
      })
      // What was published before is still there, once.
      await announce(east(), 'while-full', { count: 100 }).seen(west())
      assert.equal((await status(west())).clusters, 2)
    })
  }

  it('identity damaged in one copy: the other one is used; in both: refuses to start', async () => {
    await east().stop('SIGTERM')
    const [main, copy] = ['identity.json', 'identity.bak.json'].map((name) => join(east().state, name)) as [
      string,
      string
    ]
    const text = readFileSync(main, 'utf8')
    writeFileSync(main, text.slice(0, 100))
    await east().start()
    await eventually(async () => {
      const { warnings } = await status(east())
      assert.match(warnings.join('\n'), /identity\.json was damaged .* moved away; the agent uses the copy/)
      return true
    })
    await announce(east(), 'after-identity').seen(west())
    await east().stop('SIGTERM')
    writeFileSync(main, text.slice(0, 100))
    writeFileSync(copy, text.slice(0, 100))
    const { exitCode, stderr } = await east().gateway.exec(east().meshd(), { check: false })
    assert.equal(exitCode, 1)
    assert.match(stderr, /identity in .* and its copy cannot be used[^]*fix: restore identity\.json/)
    assert.doesNotMatch(stderr, /[A-Za-z0-9+/]{43}=/)
    await reaches(west(), east(), 500)
  })
})

/** The state folder on a tmpfs that the process alone sees: gone with it. */
function onSmallDisk(site: Site): string[] {
  const mount = `mkdir -p "$0" && mount -t tmpfs -o size=4m,mode=700 none "$0" && exec "$@"`
  return ['unshare', '--mount', 'sh', '-c', mount, site.state]
}

function fill(path: string): void {
  const file = openSync(path, 'w')
  try {
    for (let bytes = 1 << 16; bytes >= 1; bytes >>= 1) {
      try {
        for (;;) if (writeSync(file, Buffer.alloc(bytes)) < bytes) break
      } catch (error) {
        assert.equal((error as NodeJS.ErrnoException).code, 'ENOSPC')
      }
    }
  } finally {
    closeSync(file)
  }
}

/** Four bytes in the middle of every file that holds rows. */
function flip(folder: string): void {
  for (const name of readdirSync(folder).filter((file) => /\.(log|ldb)$/.test(file))) {
    const path = join(folder, name)
    const bytes = readFileSync(path)
    const middle = bytes.length >> 1
    for (let at = middle; at < Math.min(bytes.length, middle + 4); at++) bytes[at] = (bytes[at] ?? 0) ^ 0xff
    writeFileSync(path, bytes)
  }
}
