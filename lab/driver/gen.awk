# SPDX-License-Identifier: GPL-2.0-only
# Writes what is compiled into one build (-v build=NAME) from the table of builds.

function fail(why) { print "builds: " build ": " why > "/dev/stderr"; failed = 1; exit 1 }

$1 == build {
	found = 1
	if (NF != 8)
		fail("expected 8 columns, found " NF)
	if (split($5, version, ".") != 2)
		fail("a stream version is major.minor")
	print "// SPDX-License-Identifier: GPL-2.0-only"
	print "/* Generated from builds by gen.awk. */"
	print "#include \"build.h\"\n"
	print "static const struct kdx_type_def types[] = {"
	n = split($6, types, ",")
	for (i = 1; i <= n; i++) {
		if (split(types[i], t, ":") != 3)
			fail("a type is name:interface:queues")
		printf "\tKDX_TYPE(\"%s\", %d, %d),\n", t[1], t[2], t[3]
	}
	print "};\n"
	print "const struct kdx_build kdx_build = {"
	print "\t.module = KBUILD_MODNAME,"
	print "\t.namespace = \"" $2 "\","
	print "\t.parent = KDX_PARENT_" toupper($3) ","
	print "\t.dialect = &kdx_dialect_" $4 ","
	print "\t.major = " version[1] ","
	print "\t.minor = " version[2] ","
	print "\t.types = types,"
	print "\t.nr_types = ARRAY_SIZE(types),"
	print "\t.features = " $7 ","
	if ($8 != "-") {
		n = split($8, options, ",")
		for (i = 1; i <= n; i++) {
			print "\t." options[i] ","
			if (options[i] == "layout=1")
				layout = 1
		}
	}
	print "};\n"
	if (layout) {
		print "/* The parameter that changes the stream. */"
		print "module_param_cb(layout, &kdx_number_ops, &kdx_layout, 0444);"
		print "MODULE_PARM_DESC(layout, \"layout of the state stream: 0 or 1\");"
	}
	# As MODULE_DESCRIPTION, which is in a header ten times the size.
	print "__MODULE_INFO(description, description, \"Kindred lab vendor driver, build " build "\");"
	exit
}

END { if (!found && !failed) { print "builds: no build " build > "/dev/stderr"; exit 1 } }
