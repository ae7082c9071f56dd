// bin/meshctl and bin/meshd: they find a Node that is new enough and the bundle, or say what is missing.
import assert from 'node:assert/strict'
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync
} from 'node:fs'
import { tmpdir, totalmem } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { run, type Run } from './fake-meshd.ts'

const BIN = fileURLToPath(new URL('../../bin', import.meta.url))

for (const { name, flags } of [
  { name: 'meshctl', flags: [] },
  { name: 'meshd', flags: ['--max-semi-space-size=4', '--max-old-space-size=777'] }
]) {
  describe(`bin/${name}`, () => {
    let root: string

    beforeEach(() => {
      root = realpathSync(mkdtempSync(join(tmpdir(), 'launcher test-')))
      for (const folder of ['bin', 'dist', 'path', 'node_modules/.bin'])
        mkdirSync(join(root, folder), { recursive: true })
      copyFileSync(join(BIN, name), join(root, 'bin', name))
      writeFileSync(join(root, 'dist', `${name}.js`), '')
    })
    afterEach(() => rmSync(root, { recursive: true, force: true }))

    /** A node that prints `label` and its arguments. */
    const fakeNode = (folder: string, version: string, label: string): void => {
      const file = join(root, folder, 'node')
      writeFileSync(
        file,
        `#!/bin/sh\n[ "$1" = --version ] && echo ${version} && exit\nprintf '%s\\n' ${label} "$@"\n`
      )
      chmodSync(file, 0o755)
    }
    const launch = (file = join(root, 'bin', name), args: string[] = []): Promise<Run> =>
      run(file, args, {
        env: { PATH: `${join(root, 'path')}:/usr/bin:/bin`, MESHD_HEAP_MB: '777' }
      })

    it('takes the Node of its own tree first, and passes arguments as they are', async () => {
      fakeNode('node_modules/.bin', 'v24.0.0', 'own')
      fakeNode('path', 'v24.0.0', 'path')
      const { code, stdout } = await launch(undefined, ['a b', '', '*'])
      assert.equal(code, 0)
      assert.equal(stdout, ['own', ...flags, `${root}/dist/${name}.js`, 'a b', '', '*', ''].join('\n'))
    })

    it('takes the Node on PATH when it is new enough', async () => {
      for (const version of ['v22.19.0', 'v24.0.0', 'v100.1.2']) {
        fakeNode('path', version, 'path')
        assert.match((await launch()).stdout, /^path\n/, version)
      }
    })

    it('refuses an old Node with the version that is needed', async () => {
      for (const version of ['v20.20.2', 'v22.18.9', 'v8.0.0', 'nonsense']) {
        fakeNode('path', version, 'path')
        const { code, stderr } = await launch()
        assert.equal(code, 1)
        assert.equal(
          stderr,
          `${name}: Node.js ${version} on PATH is too old\n  fix: install Node.js 22.19 or newer, or run npm ci in ${root}\n`
        )
      }
    })

    it('says so when there is no Node', async () => {
      for (const tool of ['sh', 'readlink', 'dirname']) symlinkSync(`/bin/${tool}`, join(root, 'path', tool))
      const { code, stderr } = await run(join(root, 'bin', name), [], { env: { PATH: join(root, 'path') } })
      assert.equal(code, 1)
      assert.match(stderr, /there is no Node\.js\n {2}fix: install/)
    })

    it('is found through symbolic links, relative ones too', async () => {
      fakeNode('node_modules/.bin', 'v24.0.0', 'own')
      symlinkSync(join(root, 'bin', name), join(root, 'path', 'absolute'))
      symlinkSync('absolute', join(root, 'path', 'chain'))
      symlinkSync(`../bin/${name}`, join(root, 'path', 'relative'))
      for (const link of ['absolute', 'chain', 'relative']) {
        const { stdout } = await launch(join(root, 'path', link))
        assert.equal(stdout, ['own', ...flags, `${root}/dist/${name}.js`, ''].join('\n'))
      }
    })

    it('says what to do when it has not been built', async () => {
      rmSync(join(root, 'dist', `${name}.js`))
      const { code, stderr } = await launch()
      assert.equal(code, 1)
      assert.equal(stderr, `${name}: ${root}/dist/${name}.js is missing\n  fix: run make build in ${root}\n`)
    })
  })
}

describe('a core file of meshd', () => {
  it('is never written, because it would have the keys', async () => {
    const root = realpathSync(mkdtempSync(join(tmpdir(), 'launcher-core-')))
    try {
      for (const folder of ['bin', 'dist', 'node_modules/.bin'])
        mkdirSync(join(root, folder), { recursive: true })
      copyFileSync(join(BIN, 'meshd'), join(root, 'bin/meshd'))
      writeFileSync(join(root, 'dist/meshd.js'), '')
      writeFileSync(join(root, 'node_modules/.bin/node'), '#!/bin/sh\nulimit -c\n', { mode: 0o755 })
      // A limit of the parent above 0 would be inherited.
      const { stdout } = await run('sh', [
        '-c',
        'ulimit -c "$(ulimit -H -c)"; exec "$0"',
        join(root, 'bin/meshd')
      ])
      assert.equal(stdout, '0\n')
    } finally {
      rmSync(root, { recursive: true, force: true })
    }
  })
})

describe('the heap of meshd', () => {
  it('is at most 1024 MiB, and at most half of what the host or the container has', async () => {
    const root = realpathSync(mkdtempSync(join(tmpdir(), 'launcher-heap-')))
    try {
      for (const folder of ['bin', 'dist', 'node_modules/.bin'])
        mkdirSync(join(root, folder), { recursive: true })
      copyFileSync(join(BIN, 'meshd'), join(root, 'bin/meshd'))
      writeFileSync(join(root, 'dist/meshd.js'), '')
      const node = join(root, 'node_modules/.bin/node')
      writeFileSync(node, '#!/bin/sh\necho "$@"\n')
      chmodSync(node, 0o755)
      const { stdout } = await run(join(root, 'bin/meshd'), [], { env: { PATH: '/usr/bin:/bin' } })
      const [, limit] = /--max-old-space-size=(\d+) /.exec(stdout) ?? []
      const hostMb = totalmem() / 2 ** 20
      assert.ok(Number(limit) <= Math.min(1024, hostMb / 2), stdout)
      assert.ok(Number(limit) >= 32, stdout)
    } finally {
      rmSync(root, { recursive: true, force: true })
    }
  })
})
