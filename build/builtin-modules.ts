// A plugin of esbuild: how our programs come to the modules of Node itself. An `import` of node:http in an ES module reads every export of it, and one
// of them, WebSocket, loads the whole of undici: 80 of the 200 ms of processor time that a start of meshctl took. A program therefore asks Node
// for the module itself, and gets those that take long to load, and that few commands use, at their first use.
// Invariant: an export that the Node of the build has is what the Node of the run has under that name, or undefined.
import { builtinModules } from 'node:module'
import type { Plugin } from 'esbuild'

/** Their exports are functions and classes of a plain object, and there are few of them, since each import copies a getter of each. */
const LOADED_AT_FIRST_USE = new Set(['child_process', 'fs/promises', 'http', 'https', 'readline/promises'])

/** For `require`, whose place says when the module is needed. */
const WHOLE = 'node-whole'
const AT_ONCE = 'node-at-once'
const AT_FIRST_USE = 'node-at-first-use'

export const BUILTIN_MODULES: Plugin = {
  name: 'builtin-modules',
  setup(build) {
    build.onResolve({ filter: /^(node:)?[a-z_0-9/]+$/ }, ({ path, kind }) => {
      const name = path.replace(/^node:/, '')
      if (!builtinModules.includes(name)) return undefined
      if (kind !== 'import-statement') return { path: name, namespace: WHOLE }
      return { path: name, namespace: LOADED_AT_FIRST_USE.has(name) ? AT_FIRST_USE : AT_ONCE }
    })
    build.onLoad({ filter: /^/, namespace: WHOLE }, ({ path }) => ({
      contents: `module.exports = ${get(path)}`
    }))
    // Pure, so that of the exports only those that are imported are read.
    build.onLoad({ filter: /^/, namespace: AT_ONCE }, ({ path }) => ({
      contents: [
        `const found = /* @__PURE__ */ ${get(path)}`,
        'export default found',
        ...exportsOf(path).map((name) => `export const ${name} = /* @__PURE__ */ (() => found.${name})()`)
      ].join('\n')
    }))
    build.onLoad({ filter: /^/, namespace: AT_FIRST_USE }, ({ path }) => ({
      contents: [
        `let found`,
        `const loaded = () => (found ??= ${get(path)})`,
        'module.exports = {',
        ...exportsOf(path).map((name) => `  get ${name}() { return loaded().${name} },`),
        '}'
      ].join('\n')
    }))
  }
}

function get(name: string): string {
  return `process.getBuiltinModule(${JSON.stringify(`node:${name}`)})`
}

function exportsOf(name: string): string[] {
  return Object.keys(process.getBuiltinModule(name) ?? {}).filter((key) => key !== 'default')
}
