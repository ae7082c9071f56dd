// Imported before the generated code, which fixes its defaults at load: 64-bit fields are plain numbers, not Long objects.
import protobuf from 'protobufjs/minimal.js'

// The declared type knows no null, but this is the library's documented switch.
Object.assign(protobuf.util, { Long: null })
protobuf.configure()
