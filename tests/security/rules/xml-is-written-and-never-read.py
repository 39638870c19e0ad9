# ruleid: xml-is-written-and-never-read
from lxml import etree

# ok: xml-is-written-and-never-read
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, fromstring, tostring

# ruleid: xml-is-written-and-never-read
from xml.dom import minidom

# ruleid: xml-is-written-and-never-read
fromstring("<a/>")
# ruleid: xml-is-written-and-never-read
ElementTree.parse("a.xml")
# ok: xml-is-written-and-never-read
tostring(Element("a"))
