// The version of the agent, which it announces to peers and which `meshctl status` shows. The bundler defines
// RHIZOME_VERSION (build/bundle.ts); code that runs from the source tree has no such constant.
declare const RHIZOME_VERSION: string | undefined

export const VERSION: string = typeof RHIZOME_VERSION === 'string' ? RHIZOME_VERSION : '0.0.0-source'
