// Copies what dist/ does not have in it, the packages that build/bundle.ts leaves out and all that those need, from node_modules into
// <folder>/node_modules; of native ones the binary of this platform only. For the container image. `node build/runtime-modules.ts <folder>`
import { cpSync, existsSync, readFileSync } from 'node:fs'
import { dirname, join, relative, sep } from 'node:path'
import { fileURLToPath } from 'node:url'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
// `external` of build/bundle.ts.
const EXTERNAL = ['classic-level']

const target = process.argv[2]
if (target === undefined) throw new Error('usage: node build/runtime-modules.ts <folder>')

const folders = new Set<string>()
for (const name of EXTERNAL) collect(name, ROOT)
for (const folder of folders)
  cpSync(folder, join(target, relative(ROOT, folder)), { recursive: true, filter: isNeeded })

function collect(name: string, from: string): void {
  const folder = resolve(name, from)
  if (folders.has(folder)) return
  folders.add(folder)
  const { dependencies = {} } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as {
    dependencies?: Record<string, string>
  }
  for (const dependency of Object.keys(dependencies)) collect(dependency, folder)
}

/** As Node looks for it: in the node_modules of each folder above. */
function resolve(name: string, from: string): string {
  const here = join(from, 'node_modules', name)
  if (existsSync(join(here, 'package.json'))) return here
  const above = dirname(from)
  if (above === from) throw new Error(`${name} is not installed: run npm ci`)
  return resolve(name, above)
}

function isNeeded(path: string): boolean {
  const parts = path.split(sep)
  const platform = parts[parts.lastIndexOf('prebuilds') + 1]
  if (parts.includes('prebuilds') && parts.at(-1) !== 'prebuilds')
    return platform === `${process.platform}-${process.arch}`
  // Sources of what is compiled already.
  return !parts.some((part) => part === 'deps' || part === 'binding.cc' || part === 'test')
}
