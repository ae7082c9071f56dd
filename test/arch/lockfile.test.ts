// What npm installs is fixed: a changed file of a package, in the registry or on the way, fails `npm ci`.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { z } from 'zod'

const versions = z.record(z.string(), z.string()).default({})
const manifest = z.object({
  dependencies: versions,
  devDependencies: versions,
  optionalDependencies: versions
})
const lockfile = z.object({
  packages: z.record(
    z.string(),
    z.object({ integrity: z.string().optional(), hasInstallScript: z.boolean().default(false) })
  )
})

describe('the npm packages', () => {
  const { packages } = lockfile.parse(JSON.parse(readFileSync('package-lock.json', 'utf8')))
  const installed = Object.entries(packages).filter(([name]) => name !== '')

  it('have one version each, and a SHA-512 in the lock file', () => {
    const wanted = manifest.parse(JSON.parse(readFileSync('package.json', 'utf8')))
    for (const [name, version] of Object.values(wanted).flatMap((list) => Object.entries(list)))
      assert.match(version, /^\d+\.\d+\.\d+$/, name)
    assert.ok(installed.length > 100)
    for (const [name, { integrity = '' }] of installed) assert.match(integrity, /^sha512-/, name)
  })

  it('run a script at the installation only where it is known', () => {
    assert.deepEqual(
      installed.filter(([, { hasInstallScript }]) => hasInstallScript).map(([name]) => name),
      ['node_modules/classic-level', 'node_modules/esbuild', 'node_modules/koffi']
    )
  })

  it('are installed as the lock file says, where the image is built', () => {
    assert.match(readFileSync('deploy/image/Dockerfile', 'utf8'), /^RUN npm ci /m)
  })
})
